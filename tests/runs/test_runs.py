"""Run folders: one recipe each, with a recorded environment and without mixed results."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from p2r.errors import UserError
from p2r.runs import (
    claim,
    differences,
    model_fingerprint,
    open_run,
    read_json,
    write_json,
)
from p2r.runs.recipe import load_recipe


def test_new_run_keeps_its_resolved_recipe_and_environment(tmp_path):
    run = open_run(tmp_path / "x", "tiny", ["sft.max_steps=3"])
    assert run.name == "x"
    assert yaml.safe_load((run.folder / "recipe.yaml").read_text())["sft"]["max_steps"] == 3
    environment = read_json(run.folder / "environment.json")
    assert environment["versions"]["torch"] and environment["platform"] and environment["python"]
    assert {"commit", "p2r", "since"} <= set(environment)


def test_environment_holds_no_variable_of_the_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret-of-a-test")
    run = open_run(tmp_path / "x")
    texts = [file.read_text() for file in run.folder.iterdir()]
    assert not any("secret-of-a-test" in text for text in texts)


def test_run_resumes_with_its_own_recipe(tmp_path):
    begun = open_run(tmp_path / "x", "tiny", ["rl.steps=7"])
    assert open_run(tmp_path / "x").recipe == begun.recipe
    assert open_run(tmp_path / "x", "tiny", ["rl.steps=7"]).recipe == begun.recipe


def test_changed_recipe_is_refused_and_the_keys_named(tmp_path):
    open_run(tmp_path / "x", "tiny", ["rl.steps=7"])
    with pytest.raises(UserError, match=r"rl\.steps was 7, now 9.*new folder"):
        open_run(tmp_path / "x", None, ["rl.steps=9"])
    with pytest.raises(UserError, match=r"models\.base was 'playground/base'"):
        open_run(tmp_path / "x", "7b")
    assert open_run(tmp_path / "x").recipe.rl.steps == 7


def test_settings_that_do_not_change_the_result_may_change(tmp_path):
    open_run(tmp_path / "x", "tiny")
    run = open_run(tmp_path / "x", None, ["generate.batch_size=2", "rl.max_unknown=1"])
    assert run.recipe.generate.batch_size == 2
    assert open_run(tmp_path / "x").recipe.generate.batch_size == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("name=[", r"'\[' is not a YAML value"),
        ("generate.batch_size=0", r"generate\.batch_size: .*greater than 0 \(got 0\)"),
        ("eval.questions=-1", r"eval\.questions: .*greater than 0 \(got -1\)"),
    ],
)
def test_an_invalid_override_is_an_error(override, said):
    with pytest.raises(UserError, match=said):
        load_recipe("tiny", [override])


def test_an_unknown_key_is_an_error_that_lists_the_known_keys(tmp_path):
    with pytest.raises(UserError, match=r"unknown key 'sft\.stepz' \(known: .*max_steps"):
        open_run(tmp_path / "x", "tiny", ["sft.stepz=3"])
    assert not (tmp_path / "x").exists(), "nothing is begun with a recipe that is none"


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()])
def test_a_missing_run_is_an_error(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(UserError, match=r"run folder .*x (does not exist|is not a run)"):
        open_run(tmp_path / "x", must_exist=True)


def test_a_file_instead_of_a_run_folder_is_an_error(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(UserError, match="is a file"):
        open_run(tmp_path / "x")


def test_a_later_environment_is_added(tmp_path):
    run = open_run(tmp_path / "x")
    path = run.folder / "environment.json"
    old = {**read_json(path), "python": "3.11.0"}
    write_json(path, old)
    open_run(tmp_path / "x")
    open_run(tmp_path / "x")
    kept = read_json(path)
    assert kept["python"] == "3.11.0" and len(kept["later"]) == 1


def test_claim_refuses_other_settings(tmp_path):
    path = tmp_path / "generate.made.json"
    claim(path, {"model": "a", "prompt": "x"})
    claim(path, {"model": "a", "prompt": "x"})
    with pytest.raises(UserError, match=r"model was 'a', now 'b'.*delete .*generate\.\*"):
        claim(path, {"model": "b", "prompt": "x"})


def test_differences_names_dotted_keys():
    old = {"a": 1, "b": {"c": 2, "d": 3}, "e": 4}
    new = {"a": 1, "b": {"c": 2, "d": 5}, "f": 6}
    assert differences(old, new) == {"b.d": (3, 5), "e": (4, None), "f": (None, 6)}


def test_fingerprint_follows_the_weights(tmp_path):
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    a, b, c = (model_fingerprint(tmp_path / name) for name in "abc")
    assert a == c != b
    assert model_fingerprint("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.mark.parametrize("name", ["tiny", "3b", "7b"])
def test_shipped_recipes_survive_being_written(tmp_path, name):
    recipe = load_recipe(name)
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "r.yaml") == recipe


def test_several_processes_may_open_a_run_at_the_same_time(tmp_path):
    """As the demo's two RL trainings do."""
    code = "import sys; from p2r.runs import open_run; open_run(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "x")]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert json.loads((tmp_path / "x" / "environment.json").read_text())["later"] == []
