"""`p2r recipe`, `p2r runs`, `p2r status` of trainings, and completion in the shell."""

from __future__ import annotations

import json
import os

import pytest

from p2r.cli import run_cli
from p2r.cli.complete import complete_recipes, complete_runs
from p2r.errors import UserError
from p2r.runs import open_run
from p2r.runs.recipe import load_recipe
from p2r.runs.recipe_keys import recipe_schema


def printed(capsys, *arguments: str) -> str:
    assert run_cli(list(arguments)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def read(capsys, *arguments: str):
    return json.loads(printed(capsys, *arguments, "--json"))


# ---- inheritance


def test_a_recipe_starts_from_another_one_and_changes_some_keys(tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "mine.jinja").write_text("{{ problem }} Say <observation>.")
    (tmp_path / "prompts" / "start.yaml").write_text(
        "base: tiny\nmodels: {prompt: mine.jinja}\nrl: {steps: 7, beta: 0.5}\n"
    )
    (tmp_path / "mine.yaml").write_text("base: prompts/start.yaml\nname: mine\nrl: {steps: 9}\n")
    recipe, tiny = load_recipe(tmp_path / "mine.yaml"), load_recipe("tiny")
    assert (recipe.name, recipe.rl.steps, recipe.rl.beta) == ("mine", 9, 0.5)
    assert recipe.sft == tiny.sft and recipe.rl.group_size == tiny.rl.group_size
    assert "Say <observation>" in recipe.models.prompt  # a file beside the recipe that names it
    (tmp_path / "judged.yaml").write_text("base: 3b+local-judge\nseed: 4\n")
    assert load_recipe(tmp_path / "judged.yaml").filter.judge.startswith("server:")


def test_a_recipe_cannot_start_from_itself(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(UserError, match="starts from itself"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "c.yaml").write_text("base: 9b\n")
    with pytest.raises(UserError, match="no recipe '9b'"):
        load_recipe(tmp_path / "c.yaml")


# ---- p2r recipe


def test_recipes_are_listed_shown_and_compared(capsys, tmp_path):
    found = read(capsys, "recipe", "list")
    assert {"tiny", "7b"} <= found["recipes"].keys() and "local-judge" in found["presets"]
    assert "laptop" in found["recipes"]["tiny"]
    shown = tmp_path / "shown.yaml"
    shown.write_text(printed(capsys, "recipe", "show", "tiny", "--set", "rl.steps=3"))
    assert load_recipe(shown) == load_recipe("tiny", ["rl.steps=3"])
    assert read(capsys, "recipe", "diff", "tiny", str(shown))["rl.steps"][1] == 3
    open_run(tmp_path / "run", "tiny", ["seed=5"])
    assert read(capsys, "recipe", "diff", "tiny", str(tmp_path / "run")) == {"seed": [0, 5]}
    assert "equal" in printed(capsys, "recipe", "diff", "3b", "3b")


def test_every_key_has_a_type_and_a_meaning(capsys):
    keys = {key["name"]: key for key in read(capsys, "recipe", "keys")}
    assert keys["rl.beta"]["default"] == 0.04 and "KL" in keys["rl.beta"]["description"]
    assert keys["models.base"]["required"] and keys["rl.credit"]["type"].startswith("process |")
    assert all(key["description"] for key in keys.values())
    assert printed(capsys, "recipe", "keys", "rl.length_r*").startswith(
        "rl.length_ranges.perception: tuple[int, int], default [128, 320]"
    )
    assert run_cli(["recipe", "keys", "rl.stepz"]) == 2


def test_the_schema_describes_recipe_files():
    schema = recipe_schema()
    assert {"base", "name", "rl"} <= schema["properties"].keys()
    assert schema["anyOf"] == [{"required": ["base"]}, {"required": ["name", "models"]}]
    rl = schema["$defs"]["RlSettings"]
    assert rl["additionalProperties"] is False and rl["properties"]["beta"]["description"]


# ---- p2r status of trainings, p2r runs


@pytest.fixture
def runs(tmp_path):
    """Two runs: one in the middle of RL, one with evaluations."""
    first = open_run(tmp_path / "runs" / "first", "tiny", ["rl.steps=40"]).folder
    for stage, step_time in (("sft", None), ("pa_grpo", 2.0)):
        (first / stage).mkdir()
        (first / stage / "made.json").write_text("{}")
        os.utime(first / stage / "made.json", (1000, 1000))
        rows = [
            {"step": step, "reward": step / 10, "loss": float("nan"), "epoch": step / 10}
            | ({"step_time": step_time} if step_time else {})
            for step in range(1, 5)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (first / stage / "metrics.jsonl").write_text(lines + '{"step": 5, "rew')
        os.utime(first / stage / "metrics.jsonl", (1040, 1040))
    (first / "sft" / "model").mkdir()
    second = open_run(tmp_path / "runs" / "second", "tiny", ["seed=1"]).folder
    for run, mean in ((first, 0.5), (second, 0.75)):
        interval = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 10}
        (run / "eval").mkdir()
        (run / "eval" / "sft.json").write_text(json.dumps({"metrics": {"accuracy": interval}}))
    return tmp_path / "runs"


def test_status_shows_the_steps_of_trainings(capsys, runs):
    stages = read(capsys, "status", str(runs / "first"))["stages"]
    assert (stages["pa_grpo"]["done"], stages["pa_grpo"]["wanted"]) == (4, 40)
    assert stages["pa_grpo"]["eta_s"] == 36 * 2 and stages["pa_grpo"]["state"] == "begun"
    assert stages["pa_grpo"]["metrics"] == {"reward": 0.4}  # a loss of NaN is not shown
    assert (stages["sft"]["state"], stages["sft"]["left"]) == ("finished", 0)
    assert stages["sft"]["per_s"] == 0.1  # 4 steps in the 40 s since the start
    open_run(runs / "first", None, ["demo.arms.short={credit: process, steps: 7}"])
    (runs / "first" / "short").mkdir()
    (runs / "first" / "short" / "made.json").write_text("{}")
    assert read(capsys, "status", str(runs / "first"))["stages"]["short"]["wanted"] == 7
    table = printed(capsys, "status", str(runs / "first"))
    assert "4 of 40" in table and "1:12" in table and "reward" in table


def test_runs_are_listed_and_compared(capsys, runs):
    found = read(capsys, "runs", "list", str(runs))
    states = {run["run"].rpartition("/")[2]: run["stages"] for run in found}
    assert states == {"first": {"sft": "finished", "pa_grpo": "begun"}, "second": {}}
    compared = read(capsys, "runs", "compare", str(runs / "first"), str(runs / "second"))
    assert compared["settings"]["seed"] == [0, 1] and compared["settings"]["rl.steps"][0] == 40
    means = [interval["mean"] for interval in compared["metrics"]["sft accuracy"]]
    assert means == [0.5, 0.75]
    assert "50.0 [40–60]" in printed(capsys, "runs", "list", str(runs))
    table = printed(capsys, "runs", "compare", str(runs / "first"), str(runs / "second"))
    assert "75.0 [65–85]" in table and "seed" in table
    assert "no run in" in printed(capsys, "runs", "list", str(runs / "first"))
    assert run_cli(["runs", "list", str(runs / "nowhere")]) == 2
    assert "is not a folder" in capsys.readouterr().err


def test_a_run_that_cannot_be_read_is_listed_with_its_reason(capsys, runs):
    for name, text in (("old", "no_such_key: 1\n"), ("torn", "a: [")):
        (runs / name).mkdir()
        (runs / name / "recipe.yaml").write_text(text)
    found = {run["run"].rpartition("/")[2]: run for run in read(capsys, "runs", "list", str(runs))}
    assert found.keys() == {"first", "second", "old", "torn"}
    assert "unreadable: recipe" in found["old"]["recipe"] and found["old"]["stages"] == {}
    assert "no_such_key" in found["old"]["recipe"]
    assert "unreadable" in found["torn"]["recipe"]
    assert "unreadable" in printed(capsys, "runs", "list", str(runs))


def test_the_doctor_reports_json(capsys, tmp_path):
    budget = read(capsys, "doctor", "--recipe", "tiny")
    assert "sft" in {stage["stage"].lower() for stage in budget["stages"]}
    assert sum(budget["rl_memory"].values()) > 0
    (tmp_path / "q.json").write_text(
        json.dumps([{"question": "How many?", "answer": "4", "video": "v.mp4"}])
    )
    found = read(capsys, "doctor", "--rewards", str(tmp_path / "q.json"))
    assert found["ok"] and sum(found["questions"].values()) == 1


# ---- completion


def test_recipes_and_runs_are_completed(runs, monkeypatch):
    assert complete_recipes("t") == ["tiny", "tiny1"]
    assert complete_recipes("7b+lo") == ["7b+local-judge"]
    monkeypatch.chdir(runs.parent)
    assert complete_runs("runs/f") == ["runs/first"] and len(complete_runs("")) == 2


def test_the_shell_asks_for_completions(capsys, monkeypatch):
    monkeypatch.setenv("_P2R_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "p2r recipe show qwen2.5-vl-3")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        run_cli([])
    assert "qwen2.5-vl-3b-1x24gb" in capsys.readouterr().out
