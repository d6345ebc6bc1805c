"""Run folders: one recipe each, with a recorded environment and without mixed results."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import get_args

import pytest
import yaml

from p2r.cli import run_cli
from p2r.errors import UserError
from p2r.rewards import SCHEMES
from p2r.runs import (
    claim,
    differences,
    model_fingerprint,
    open_run,
    read_json,
    write_json,
)
from p2r.runs.backup import RecipeBackup
from p2r.runs.demo_sections import PlaygroundSettings
from p2r.runs.fields import Credit
from p2r.runs.folder import check_new_run
from p2r.runs.names import RL_STAGES
from p2r.runs.ownership import PLAYGROUND_SPLITS, is_free, owners
from p2r.runs.recipe import ALIASES, load_recipe, recipe_names
from p2r.runs.styles import STYLES
from p2r.template.prompts import INSTRUCTIONS


def test_every_credit_scheme_has_advantages_and_a_folder():
    assert set(get_args(Credit)) == set(SCHEMES) == set(RL_STAGES)


def test_every_prompt_style_has_an_instruction():
    assert set(STYLES) == set(INSTRUCTIONS)


def test_every_split_of_the_playground_has_an_owner():
    sizes = set(PlaygroundSettings.model_fields) - {"generation"}
    assert sizes == set(PLAYGROUND_SPLITS)


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


def begin(run, *files):
    """Write files that a stage writes when it begins."""
    for name in files:
        run.path(*name.split("/")).write_text("{}\n")


ALL_STAGES = (
    "data/train.jsonl",
    "data/test.jsonl",
    "generate.jsonl",
    "filter.jsonl",
    "sft/made.json",
    "pa_grpo/made.json",
    "eval/sft.made.json",
)


def test_a_changed_setting_of_a_begun_stage_is_refused_and_stage_and_key_are_named(tmp_path):
    begin(open_run(tmp_path / "x", "tiny", ["rl.steps=7"]), "sft/made.json", "pa_grpo/made.json")
    with pytest.raises(
        UserError, match=r"rl of run .*rl\.steps was 7, now 9.*new folder.*pa_grpo/"
    ):
        open_run(tmp_path / "x", None, ["rl.steps=9"])
    with pytest.raises(UserError, match=r"sft of run .*models\.base was 'playground/second/base'"):
        open_run(tmp_path / "x", "7b")
    assert open_run(tmp_path / "x").recipe.rl.steps == 7


@pytest.mark.parametrize(
    ("files", "stage", "owned", "free"),
    [
        ("generate.jsonl", "generate", "generate.max_tokens=9", "filter.min_accuracy=0.5"),
        ("generate.jsonl", "generate", "video.train_frames=4", "video.eval_frames=4"),
        ("filter.jsonl", "filter", "filter.judge=claude", "rl.judge=claude"),
        ("sft/made.json", "sft", "sft.learning_rate=1", "rl.learning_rate=1"),
        ("sft/made.json", "sft", "models.agnostic_prompt=think", "rl.judge_always=true"),
        ("sft/model/config.json", "sft", "tuning.lora_rank=4", "eval.judge=claude"),
        ("grpo/made.json", "rl", "rl.group_size=2", "eval.temperature=1"),
        ("grpo/made.json", "rl", "demo.arms.grpo.judge=grounded", "demo.arms.own={judge: none}"),
        ("own/made.json", "rl", "rl.group_size=2", "eval.judge=grounded"),
        ("eval/sft.made.json", "eval", "eval.max_tokens=9", "rl.steps=9"),
        ("data/train.jsonl", "data/train.jsonl", "playground.train=9", "playground.test=9"),
    ],
)
def test_a_stage_owns_its_settings(tmp_path, files, stage, owned, free):
    begin(open_run(tmp_path / "x", "tiny"), files)
    with pytest.raises(UserError, match=rf"^{stage} of run .*{owned.split('=')[0]} was"):
        open_run(tmp_path / "x", None, [owned])
    open_run(tmp_path / "x", None, [free])


def test_an_arm_of_the_demo_changes_the_settings_of_rl():
    recipe = load_recipe("tiny", ["demo.arms.short={rewards: [reasoning], max_tokens: 9}"])
    assert [*recipe.demo.arms] == ["grpo", "pa_grpo", "pa_grpo_grounded", "short"]
    assert recipe.of_arm("pa_grpo_grounded").rl.judge == "grounded"
    short = recipe.of_arm("short").rl
    assert (short.rewards, short.max_tokens, short.steps) == (["reasoning"], 9, recipe.rl.steps)
    assert recipe.of_arm("grpo_shared").rl.credit == "shared"
    ranges = load_recipe("tiny", ["demo.arms.near={length_ranges: {perception: [5, 9]}}"])
    ranges = ranges.of_arm("near").rl.length_ranges
    assert ranges.perception == (5, 9) and ranges.reasoning == recipe.rl.length_ranges.reasoning
    panel = "{kind: panel, judges: [oracle, grounded]}"
    noisy = "demo.arms.noisy={judge: {kind: noisy, judge: oracle, rate: 0.2}}"
    judge = load_recipe("tiny", [f"rl.judge={panel}", noisy]).of_arm("noisy").rl.judge
    assert judge == {"kind": "noisy", "judge": "oracle", "rate": 0.2}
    with pytest.raises(UserError, match="no RL training 'tall': choose one of grpo"):
        recipe.of_arm("tall")
    for wrong in ("eval={credit: shared}", "Own={credit: shared}", "own={karma: 1}"):
        with pytest.raises(UserError, match=r"demo\.arms"):
            load_recipe("tiny", [f"demo.arms.{wrong}"])


def test_a_reward_function_of_an_arm_is_beside_its_recipe(tmp_path, monkeypatch):
    (tmp_path / "rewards.py").write_text("def mine(rollout): ...\n")
    arms = {"mine": {"reward": "rewards.py:mine"}}
    recipe = {**load_recipe("tiny").model_dump(mode="json"), "demo": {"arms": arms}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "own.yaml").write_text("base: ../own.yaml\n")
    monkeypatch.chdir(tmp_path / "below")
    for file in (tmp_path / "own.yaml", tmp_path / "below" / "own.yaml"):
        reward = load_recipe(file).of_arm("mine").rl.reward
        assert reward == f"{(tmp_path / 'rewards.py').resolve()}:mine"


def test_every_setting_of_a_recipe_is_free_or_has_a_stage():
    def keys(values, prefix=""):
        for name, value in values.items():
            nested = isinstance(value, dict) and value
            yield from keys(value, f"{prefix}{name}.") if nested else [f"{prefix}{name}"]

    recipe = load_recipe("7b").model_dump(mode="json")
    assert [key for key in keys(recipe) if not is_free(key) and not owners(key)] == []
    assert [key for key in keys(recipe) if key.startswith("rl.") and is_free(key)] != []


@pytest.mark.parametrize(
    "override",
    [
        "generate.engine=vllm",
        "eval.engine=server",
        "eval.batch_size=1",
        "sft.save_steps=3",
        "rl.micro_batch=8",
        "rl.save_steps=1",
        "rl.rollouts=vllm",
        "judging.budget=5",
        "vllm.memory=0.5",
    ],
)
def test_a_setting_that_changes_no_result_may_always_change(tmp_path, override):
    begin(open_run(tmp_path / "x", "tiny"), *ALL_STAGES)
    assert override.split("=")[1] in str(open_run(tmp_path / "x", None, [override]).recipe)


def test_a_run_may_split_the_same_sft_batch_in_another_way(tmp_path):
    begin(open_run(tmp_path / "x", "tiny"), "sft/made.json")
    open_run(tmp_path / "x", None, ["sft.batch_size=4", "sft.accumulation=4"])
    open_run(tmp_path / "x", None, ["sft.batch_size=1", "sft.global_batch=16"])
    with pytest.raises(UserError, match=r"sft\.global_batch was 16, now 8"):
        open_run(tmp_path / "x", None, ["sft.global_batch=8"])


def test_a_run_of_an_older_version_keeps_its_settings(tmp_path):
    """Its `recipe.yaml` does not have the newer keys."""
    old = load_recipe("7b").model_dump(mode="json")
    del old["video"]["image_pixels"], old["sft"]["max_grad_norm"], old["sft"]["global_batch"]
    old["sft"] |= {"weight_decay": 0.01, "batch_size": 8, "accumulation": 2}
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "recipe.yaml").write_text(yaml.safe_dump(old))
    before = (tmp_path / "x" / "recipe.yaml").read_text()
    recipe = open_run(tmp_path / "x").recipe
    assert (recipe.video.image_pixels, recipe.sft.max_grad_norm) == (None, 1.0)
    assert (recipe.sft.weight_decay, recipe.sft.global_batch) == (0.01, None)
    assert (tmp_path / "x" / "recipe.yaml").read_text() == before


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


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "rl.stps=3",
            r"^setting rl\.stps=3: unknown key 'rl\.stps' \(did you mean rl\.steps\? known: ",
        ),
        ("rl.zz=3", r"^setting rl\.zz=3: unknown key 'rl\.zz' \(known: .*length_ranges"),
        ("rll.steps=3", r"^setting rll\.steps=3: unknown key 'rll' \(did you mean rl\? known: "),
        ("models.prompt=bad.jinja", r"^setting models\.prompt=bad\.jinja: .*no prompt 'bad"),
    ],
)
def test_a_wrong_override_is_named_and_not_the_recipe_file(override, said):
    with pytest.raises(UserError, match=said):
        load_recipe("tiny", ["sft.batch_size=2", override])


def test_a_wrong_key_of_a_file_is_named_with_the_file(tmp_path):
    (tmp_path / "own.yaml").write_text("base: tiny\nrl: {stps: 3}\n")
    with pytest.raises(UserError, match=r"^recipe .*own\.yaml: unknown key 'rl\.stps'"):
        load_recipe(tmp_path / "own.yaml", ["rl.steps=2"])


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


def test_claim_compares_only_settings_that_change_the_result(tmp_path):
    path = tmp_path / "made.json"
    sft = {"batch_size": 8, "accumulation": 2, "save_steps": 5, "learning_rate": 1.0}
    claim(path, {"engine": "transformers", "weights": "a", "sft": sft})
    other = {**sft, "batch_size": 2, "global_batch": 16, "save_steps": 1, "max_grad_norm": 5.0}
    claim(path, {"engine": "server", "media": "exact", "weights": "a", "sft": other})
    with pytest.raises(UserError, match=r"sft\.learning_rate was 1\.0, now 2\.0"):
        claim(path, {"weights": "a", "sft": {**sft, "learning_rate": 2.0}})


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


@pytest.mark.parametrize("name", recipe_names())
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


@pytest.mark.parametrize(("old", "new"), ALIASES.items())
def test_older_names_of_recipes_still_work(old, new):
    assert load_recipe(old) == load_recipe(new)


def test_a_preset_changes_only_its_keys():
    plain, local = load_recipe("7b-1x80gb"), load_recipe("7b-1x80gb+local-judge")
    changed = differences(plain.model_dump(mode="json"), local.model_dump(mode="json"))
    assert set(changed) == {"filter.judge", "rl.judge", "eval.judge"}
    with pytest.raises(UserError, match=r"no preset 'nothing'.*local-judge"):
        load_recipe("7b+nothing")


def test_a_judge_of_the_same_kind_changes_key_by_key(tmp_path):
    judge = {"kind": "vision", "model": "claude-haiku-4-5", "frames": 8}
    for name, settings in {
        "first": {**load_recipe("tiny").model_dump(mode="json"), "rl": {"judge": judge}},
        "same": {"base": "first.yaml", "rl": {"judge": {"kind": "vision", "frames": 16}}},
        "other": {"base": "first.yaml", "rl": {"judge": {"kind": "panel", "judges": ["oracle"]}}},
    }.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    assert load_recipe(tmp_path / "same.yaml").rl.judge == judge | {"frames": 16}
    other = load_recipe(tmp_path / "other.yaml").rl.judge
    assert other == {"kind": "panel", "judges": ["oracle"]}


@pytest.mark.parametrize("name", [".hidden", "data_root", "generate.jsonl", "slurm-1.out"])
def test_a_folder_with_files_of_a_run_may_become_one(tmp_path, name):
    (tmp_path / name).write_text("")
    (tmp_path / "pa_grpo" / "model").mkdir(parents=True)
    check_new_run(tmp_path)
    check_new_run(tmp_path / "new")


def test_a_folder_of_something_else_is_no_new_run(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("")
    for command in ("generate", "demo"):
        for more in ([], ["--dry-run"]):
            assert run_cli([command, "--run", str(tmp_path), *more]) == 2
            assert "holds other files, for example 'thesis.tex'" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_refused_command_leaves_the_recipe_as_it_was(tmp_path, capsys):
    run = open_run(tmp_path / "x", "tiny1", ["judging.budget=9"])
    kept = (run.folder / "recipe.yaml").read_text()
    assert run_cli(["rl", "--run", str(run.folder), "--set", "rl.micro_batch=5"]) == 2
    assert "has no SFT model yet" in capsys.readouterr().err
    assert (run.folder / "recipe.yaml").read_text() == kept
    backup = RecipeBackup(run.folder)
    open_run(run.folder, None, ["rl.micro_batch=5"])
    backup.note_change()
    begin(run, "ledger.id", "grpo/verdicts-0.jsonl")
    (run.folder / "grpo" / "verdicts-0.jsonl").write_text("")
    backup.restore()
    assert (run.folder / "recipe.yaml").read_text() == kept, "no stage has begun yet"
    assert run_cli(["rl", "--run", str(run.folder), "--set", "judging.budget=3"]) == 2
    assert open_run(run.folder).recipe.judging.budget == 3, "a limit on spending stays"


def test_the_recipe_of_a_stage_that_has_begun_stays(tmp_path):
    run = open_run(tmp_path / "x", "tiny1")
    for name in ("generate.jsonl", "grpo/made.json", "grpo/checkpoints/checkpoint-5"):
        kept, backup = open_run(run.folder).recipe, RecipeBackup(run.folder)
        changed = open_run(run.folder, None, [f"rl.micro_batch={kept.rl.micro_batch + 1}"])
        backup.note_change()
        begin(run, name)
        (run.folder / name).write_text("{}")
        backup.restore()
        assert open_run(run.folder).recipe == changed.recipe
