"""The process-agnostic baseline: SFT on think and answer only, then RL and evaluation alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small import read_lines, small_recipe

from p2r import stages
from p2r.records import Case, Trace
from p2r.runs import Run, read_json
from p2r.template import prompt_hash

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
SETTINGS = (
    "sft.target=agnostic",
    "sft.max_steps=30",
    "sft.batch_size=4",
    "sft.learning_rate=2e-3",
    "rl.credit=outcome",
    "rl.steps=1",
    "rl.prompts_per_step=2",
    "rl.group_size=4",
    "rl.micro_batch=8",
    "rl.max_tokens=60",
    "rl.preflight=1",
    "eval.max_tokens=60",
)


@pytest.fixture(scope="module")
def run(model_folder, media, questions, tmp_path_factory) -> Run:
    """A run with SFT on traces without their observations, then RL."""
    folder = tmp_path_factory.mktemp("agnostic")
    recipe = small_recipe(model_folder, *SETTINGS)
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    (folder / "data_root").write_text(f"{media}\n")
    asked = [questions[0], questions[2], questions[3]]
    (folder / "questions.jsonl").write_text("".join(q.model_dump_json() + "\n" for q in asked))
    with (folder / "sft.jsonl").open("w") as kept:
        for question in asked:
            for answer in ("2", "3"):
                trace = {"observation": "I see two.", "think": "So.", "answer": answer, "text": ""}
                case = Case(question=question, trace=Trace(question_id=question.id, **trace))
                kept.write(json.dumps(case.model_dump(mode="json")) + "\n")
    opened = Run(folder, recipe)
    stages.sft(opened)
    stages.rl(opened, questions=folder / "questions.jsonl")
    return opened


def test_sft_learns_think_and_answer_alone(run):
    assert read_json(run.path("sft", "made.json"))["style"] == "brief-think"
    assert read_json(run.path("sft", "made.json"))["sft"]["target"] == "agnostic"


def test_rl_asks_and_rewards_without_an_observation(run):
    cases = [Case.model_validate(row) for row in read_lines(run.path("grpo", "rollouts.jsonl"))]
    assert len(cases) == 8
    assert {case.trace.sampling["prompt"] for case in cases} == {prompt_hash("brief-think")}
    assert not any(case.trace.observation for case in cases)
    assert sum(case.reasoning.format for case in cases) > 4, "it was taught to"
    assert all(case.perception_advantage == case.reasoning_advantage for case in cases)
    report = read_json(run.path("grpo", "preflight.json"))
    assert report["passed"] and report["rates"]["format/reasoning"] > 0.5
    (row,) = read_lines(run.path("grpo", "metrics.jsonl"))
    assert row["judge/calls"] == 0 and row["perception/tokens"] == 0


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_evaluation_asks_the_same_way(run, stage, questions):
    file = run.folder / "questions.jsonl"
    cases, result = stages.evaluate(run, str(Path(run.folder, stage, "model")), stage, file)
    assert result["made"]["sampling"]["prompt"] == prompt_hash("brief-think")
    assert len(cases) == 3 and not any(case.trace.observation for case in cases)
    assert any(case.trace.answer in ("2", "3") for case in cases)
