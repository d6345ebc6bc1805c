"""Validation while RL runs: it changes nothing in the training, and the best model is kept."""

from __future__ import annotations

import json

import pytest
import torch
from small import read_lines, small_recipe
from small_rl import RuleJudge

from p2r import data
from p2r.errors import TrainingError
from p2r.training import temporal, validation
from p2r.training.grpo import train_grpo

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow
SETTINGS = [
    "rl.steps=3",
    "rl.prompts_per_step=2",
    "rl.group_size=4",
    "rl.micro_batch=8",
    "rl.max_tokens=24",
    "rl.save_steps=100",
    "rl.learning_rate=1e-3",
]
VALIDATED = ["rl.validate_every=1", "rl.validate_questions=2"]


def train(out, model, media, questions, *settings, judge=None):
    recipe = small_recipe(model, *SETTINGS, *settings)
    judge = judge or RuleJudge()
    return train_grpo(recipe, questions, model, out, judge=judge, data_root=media)


def test_it_changes_nothing_in_the_training_and_asks_no_judge(
    taught_folder, media, questions, tmp_path
):
    kept, held = validation.hold_out(questions, 2, 0, lambda question: None)
    assert len(held) == 2 and {q.id for q in kept} | {q.id for q in held} == {
        q.id for q in questions
    }
    plain, validated = RuleJudge(), RuleJudge()
    train(tmp_path / "plain", taught_folder, media, kept, judge=plain)
    train(tmp_path / "validated", taught_folder, media, questions, *VALIDATED, judge=validated)
    for key in ("loss", "reward", "kl", "num_tokens", "judge/calls"):
        rows = [
            [row[key] for row in read_lines(tmp_path / name / "metrics.jsonl")]
            for name in ("plain", "validated")
        ]
        assert rows[0] == rows[1] and len(rows[0]) == 3, key
    assert plain.asked == validated.asked
    cases = read_lines(tmp_path / "validated" / "rollouts.jsonl")
    assert not {case["question"]["id"] for case in cases} & {question.id for question in held}
    rows = read_lines(tmp_path / "validated" / "validation.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all(row["questions"] == 2 and row["rollouts"] == 8 for row in rows)
    assert all(0 <= row["accuracy"] <= 1 and 0 <= row["in_template"] <= 1 for row in rows)


def test_it_samples_no_shuffled_frames(taught_folder, media, questions, tmp_path, monkeypatch):
    sampled = []
    shuffled_rows = temporal.shuffled_rows
    monkeypatch.setattr(
        temporal, "shuffled_rows", lambda step: sampled.append(step.number) or shuffled_rows(step)
    )
    settings = ["rl.credit=temporal", "rl.preflight=false", "rl.steps=1"]
    train(tmp_path, taught_folder, media, questions, *VALIDATED, *settings)
    assert sampled == [1], "the training step alone"
    assert [row["step"] for row in read_lines(tmp_path / "validation.jsonl")] == [1]


@pytest.mark.parametrize("lora", [[], ["tuning.lora_rank=4"]])
def test_the_best_model_is_marked_and_kept(
    lora, taught_folder, media, questions, tmp_path, monkeypatch
):
    sample, shares = validation.sample_held_out, iter([0.5, 0.75, 0.25])

    def scored(*arguments):
        cases, share = sample(*arguments), next(shares)
        for place, case in enumerate(cases):
            case.accuracy = float(place < share * len(cases))
        return cases

    monkeypatch.setattr(validation, "sample_held_out", scored)
    train(tmp_path, taught_folder, media, questions, *VALIDATED, *lora, "keep=all")
    assert [row["best"] for row in read_lines(tmp_path / "validation.jsonl")] == [True, True, False]
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": 2, "accuracy": 0.75}
    best, final = (data.load_model(tmp_path / name).state_dict() for name in ("best", "model"))
    assert any(not torch.equal(weights, final[name]) for name, weights in best.items())
    if not lora:
        saved = data.load_model(tmp_path / "checkpoints" / "checkpoint-2").state_dict()
        assert all(torch.equal(weights, best[name]) for name, weights in saved.items())
    assert data.load_processor(tmp_path / "best")
    assert not {"optimizer.pt", "trainer_state.json"} & {
        p.name for p in (tmp_path / "best").iterdir()
    }


def test_too_few_questions_to_hold_out_are_an_error(model_folder, media, questions, tmp_path):
    with pytest.raises(TrainingError, match=r"hold out 5 .* lower rl.validate_questions"):
        train(
            tmp_path, model_folder, media, questions, "rl.validate_every=1",
            "rl.validate_questions=5",
        )  # fmt: skip
