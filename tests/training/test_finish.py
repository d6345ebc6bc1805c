"""What a finished training keeps: the recipe key `keep`, adapters and the best model."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from small import small_recipe
from test_sft import cases_of

from p2r import data
from p2r.cli import run_cli
from p2r.errors import UserError
from p2r.records import Case, Question, Trace
from p2r.runs import finished_model, open_run
from p2r.runs.recipe import load_recipe
from p2r.training.sft import train_sft

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow
STEPS = ["sft.max_steps=3", "sft.batch_size=2", "sft.save_steps=1", "sft.learning_rate=1e-3"]


@pytest.mark.parametrize(
    ("keep", "left"), [("best", []), ("last 1", [3]), ("last 2", [2, 3]), ("all", [1, 2, 3])]
)
def test_the_recipe_says_which_checkpoints_are_kept(
    keep, left, model_folder, media, questions, tmp_path
):
    out = tmp_path / "sft"
    recipe = small_recipe(model_folder, *STEPS, f"keep={keep}")
    train_sft(recipe, cases_of(questions[2:]), out, data_root=media)
    for _ in range(2):  # opening a finished stage removes nothing more
        found = sorted(path.name for path in out.glob("checkpoints/*/"))
        assert found == [f"checkpoint-{step}" for step in left]
        assert finished_model(out) == out / "model"
    if left:
        last = data.load_model(out / "checkpoints" / "checkpoint-3").state_dict()
        final = data.load_model(out / "model").state_dict()
        assert all(torch.equal(weights, final[name]) for name, weights in last.items())


def test_only_the_main_worker_collects_the_cases(tmp_path, monkeypatch):
    run = open_run(tmp_path / "run", "tiny1", ())
    run.path("pa_grpo", "model", "config.json").write_text("{}")
    question = Question(id="q", problem="Who?", problem_type="free-form", answer="A")
    trace = Trace(question_id="q", text="?", step=1)
    log = run.path("pa_grpo", "rollouts.jsonl")
    log.write_text(Case(question=question, trace=trace).model_dump_json() + "\n")
    found = []
    for rank in "10":
        monkeypatch.setenv("RANK", rank)
        assert run_cli(["rl", "--run", str(run.folder)]) == 0
        names = ("cases/rl-pa_grpo.jsonl", "cases.parquet")
        found.append([(run.folder / name).is_file() for name in names])
    assert found == [[False, False], [True, True]]


@pytest.mark.parametrize("keep", ["none", "last", "last 0", "last -1", "3"])
def test_other_values_are_errors(keep):
    with pytest.raises(UserError, match="keep"):
        load_recipe("tiny", [f"keep={keep}"])


def test_adapters_are_kept_beside_the_merged_weights(model_folder, media, questions, tmp_path):
    recipe = small_recipe(model_folder, *STEPS, "tuning.lora_rank=4")
    model = train_sft(recipe, cases_of(questions[2:]), tmp_path, data_root=media)
    merged = PeftModel.from_pretrained(data.load_model(model_folder), tmp_path / "adapters")
    expected = merged.merge_and_unload().state_dict()
    for name, weights in data.load_model(model).state_dict().items():
        torch.testing.assert_close(weights, expected[name])
    assert not list((tmp_path / "adapters").glob("*.bin"))
