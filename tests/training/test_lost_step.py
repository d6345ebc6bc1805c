"""A judge or vLLM that fails is asked again, and a run that must stop loses no finished step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small import read_lines, small_recipe
from small_rl import RuleJudge

from p2r import data
from p2r.engines import Completion, Request, Sampling
from p2r.errors import TrainingError
from p2r.records import Question, Verdict
from p2r.training.grpo import train_grpo
from p2r.training.stage import raise_together
from p2r.training.vllm_rollouts import VllmRollouts

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow
SETTINGS = [
    "rl.steps=4",
    "rl.prompts_per_step=2",
    "rl.group_size=4",
    "rl.micro_batch=8",
    "rl.max_tokens=24",
    "rl.save_steps=100",
    "rl.max_unknown=0",
    "rl.judge_retries=0",
]


class DownFrom(RuleJudge):
    """Gives no verdict from its call number `first` on."""

    def __init__(self, first: int):
        super().__init__()
        self.left = first - 1

    def judge(self, questions, observations):
        self.left -= 1
        if self.left < 0:
            return [Verdict(sufficient=None, rationale="overloaded")] * len(questions)
        return super().judge(questions, observations)


class WrongFrom(DownFrom):
    """Raises an error that no retry repairs, for example a spent budget."""

    def judge(self, questions, observations):
        if self.left == 0:
            raise TrainingError("the budget is spent")
        return super().judge(questions, observations)


def train(out: Path, model: Path, media: Path, questions: list[Question], judge: RuleJudge) -> Path:
    recipe = small_recipe(model, *SETTINGS)
    train_grpo(recipe, questions, model, out, judge=judge, data_root=media)
    return out


@pytest.fixture(scope="module")
def whole(taught_folder, media, questions, tmp_path_factory) -> Path:
    """The folder of a training that nothing stopped."""
    out = tmp_path_factory.mktemp("rl") / "whole"
    return train(out, taught_folder, media, questions, RuleJudge())


@pytest.mark.parametrize("judge", [DownFrom, WrongFrom])
def test_a_run_that_its_judge_stops_continues_with_the_step_that_failed(
    judge, whole, taught_folder, media, questions, tmp_path
):
    stopped = tmp_path / "stopped"
    with pytest.raises(TrainingError, match=r"no verdict on|the budget is spent"):
        train(stopped, taught_folder, media, questions, judge(first=4))
    assert (stopped / "checkpoints" / "checkpoint-3" / "complete").is_file()
    assert [row["step"] for row in read_lines(stopped / "metrics.jsonl")] == [1, 2, 3]
    train(stopped, taught_folder, media, questions, RuleJudge())
    for key in ("step", "loss", "reward", "kl", "num_tokens"):
        before, after = (
            [row[key] for row in read_lines(folder / "metrics.jsonl")]
            for folder in (whole, stopped)
        )
        assert after == before, key
    one, two = (data.load_model(folder / "model").state_dict() for folder in (whole, stopped))
    assert all(torch.equal(weights, two[name]) for name, weights in one.items())


# ------------------------------------------------------------------------------------------- vLLM


class Flaky:
    """Fails on request "b" for the first `times` times."""

    def __init__(self, times: int):
        self.times, self.asked = times, []

    def generate(self, requests, sampling):
        for request in requests:
            self.asked.append(request.key)
            if request.key == "b" and self.times:
                self.times -= 1
                yield Completion(key=request.key, error="out of slots")
            else:
                yield Completion(key=request.key, text=request.key, token_ids=[1])


def sampled(engine: Flaky, monkeypatch) -> list[str]:
    """Return the texts of three requests, asked for without a pause."""
    monkeypatch.setattr(VllmRollouts, "PAUSE", 0.0)
    rollouts = object.__new__(VllmRollouts)
    rollouts.sampler = SimpleNamespace(engine=engine)
    question = Question(id="q", problem="?", problem_type="numerical", answer="2")
    requests = [Request(key, question, None) for key in "abc"]
    return [found.text for found in rollouts._complete(requests, Sampling())]


def test_only_the_rollout_that_failed_is_sampled_again(monkeypatch):
    engine = Flaky(times=2)
    assert sampled(engine, monkeypatch) == ["a", "b", "c"]
    assert engine.asked == ["a", "b", "c", "b", "b"]


def test_a_rollout_that_always_fails_is_an_error_with_its_reason(monkeypatch):
    engine = Flaky(times=99)
    with pytest.raises(TrainingError, match=r"rollout b 5 times: out of slots.*start again"):
        sampled(engine, monkeypatch)
    assert engine.asked.count("b") == VllmRollouts.ATTEMPTS


def test_an_error_of_one_worker_is_an_error_of_all():
    raise_together(None)
    with pytest.raises(TrainingError, match="gone") as raised:
        raise_together(TrainingError("gone"))
    assert raised.value.together
