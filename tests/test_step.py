"""A step's time budget, the judge beside the log-probs, numbers by process, and its benchmark."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_rl import RuleJudge, Scripted, generation, make_trainer, scripted
from torch.testing import assert_close

from p2r.judges.claude import ClaudeJudge
from p2r.judges.remote import Reply
from p2r.template import render
from p2r.trainer import ProcessAwareGRPOTrainer

pytest_plugins = ["small_fixtures"]

ROOT = Path(__file__).parents[1]
TEXTS = [render(f"I see {word}.", "So two.", "2") for word in ("two", "one", "a two", "none")]


class SlowJudge(RuleJudge):
    """Answers after a while, and says when it was asked and when it was done."""

    def judge(self, questions, observations):
        self.began = time.perf_counter()
        time.sleep(0.5)
        self.ended = time.perf_counter()
        return super().judge(questions, observations)


def test_the_judge_answers_while_log_probs_are_computed(model_folder, media, questions, tmp_path):
    judge, spans = SlowJudge(), []

    class Slow(Scripted):
        def _get_per_token_logps_and_entropies(self, *args, **kwargs):
            began = time.perf_counter()
            time.sleep(0.4)  # as of a large model
            found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
            spans.append((began, time.perf_counter()))
            return found

    trainer, cases = make_trainer(
        Slow, model_folder, media, questions[:1], tmp_path, "rl.group_size=4", "rl.micro_batch=4",
        judge=judge,
    )  # fmt: skip
    trainer.responses = TEXTS
    trainer.model.train()
    trainer._generate_and_score_completions(generation(questions[:1], 4))
    began, ended = spans[0]
    assert min(ended, judge.ended) - max(began, judge.began) > 0.3, "side by side"
    assert trainer._seconds["judge"] >= 0.5 > trainer._seconds["judge_wait"]
    assert [case.perception.accuracy for case in cases] == [1, 0, 1, 0], "each its own verdict"


def test_an_error_in_the_judge_stops_the_step(model_folder, media, questions, tmp_path):
    class Broken:
        def judge(self, questions, observations):
            raise ValueError("a judge that is wrong")

    with pytest.raises(ValueError, match="a judge that is wrong"):
        scripted(model_folder, media, questions, tmp_path, TEXTS, judge=Broken())


def test_64_calls_of_a_slow_claude_last_little_longer_than_one(monkeypatch, questions):
    async def send(self, prompt):
        await asyncio.sleep(0.5)
        return Reply("<judgement>Yes</judgement>")

    monkeypatch.setattr(ClaudeJudge, "_send", send)
    start = time.perf_counter()
    verdicts = ClaudeJudge(client=object()).judge(questions[:1] * 64, [f"{i}" for i in range(64)])
    assert len(verdicts) == 64 and time.perf_counter() - start < 2


def test_a_step_logs_where_its_time_went(model_folder, media, questions, tmp_path):
    trainer, _ = make_trainer(ProcessAwareGRPOTrainer, model_folder, media, questions, tmp_path)
    trainer.train()
    row = next(row for row in trainer.state.log_history if "step_time" in row)
    parts = ("decode", "encode", "generate", "judge_wait", "log_probs", "backward")
    spent = [row[f"time/{part}"] for part in parts]
    assert min(spent) >= 0 and row["time/judge"] >= 0
    assert sum(spent) <= row["step_time"]
    assert row["time/backward"] > 0 and row["time/generate"] > 0


def test_entropy_kl_and_clip_share_by_process_add_up_to_those_of_trl(
    model_folder, media, questions, tmp_path
):
    trainer, batch, cases = scripted(model_folder, media, questions, tmp_path, TEXTS)
    # Another reference and another old policy, so that there is a divergence and there are clips.
    noise = torch.Generator().manual_seed(0)
    shift = torch.randn(batch["ref_per_token_logps"].shape, generator=noise)
    batch["ref_per_token_logps"] += 0.1 * shift
    batch["old_per_token_logps"] = batch["ref_per_token_logps"] + shift
    trainer._metrics["train"].clear()
    trainer._compute_loss(trainer.model, batch)
    found = trainer._metrics["train"]
    looked = sum(case.trace.perception_tokens for case in cases)
    total = sum(case.trace.completion_tokens for case in cases)
    for mine, theirs in (("entropy",) * 2, ("kl",) * 2, ("clip_ratio", "clip_ratio/region_mean")):
        perception, reasoning = found[f"perception/{mine}"][0], found[f"reasoning/{mine}"][0]
        assert perception != reasoning
        together = (perception * looked + reasoning * (total - looked)) / total
        assert_close(together, found[theirs][0], atol=1e-5, rtol=1e-4)


def test_the_benchmark_prints_one_json_object():
    small = ["rl.prompts_per_step=2", "rl.group_size=2", "rl.micro_batch=4", "rl.max_tokens=48"]
    done = subprocess.run(
        [sys.executable, "benchmarks/step.py", "--json", "--rounds", "1", "--delay", "0.1"]
        + [part for setting in small for part in ("--set", setting)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert 0.2 < found["process_over_outcome"] < 5
    assert 0.05 < found["over_trl"] < 5
    assert abs(found["judge_delay_adds_s"]) < 10
    assert found["decodes_per_video"] == 1
    assert 100 < found["peak_mb"] < 8000
    assert found["rollouts"] == found["judge_calls_per_step"] == 4
    assert set(found["seconds"]) >= {"trl", "outcome", "process"}
