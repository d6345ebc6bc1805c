"""T-GRPO: the second group sees the same frames in random order, and its accuracy decides."""

from __future__ import annotations

from collections import Counter
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from small import VIDEO, read_lines
from small_rl import FULL, WithResponses, generation, make_trainer
from test_grpo import train

from p2r import data
from p2r.engines import Completion
from p2r.records import Case
from p2r.runs import read_json
from p2r.runs.recipe import load_recipe
from p2r.template import render
from p2r.training.step import Step
from p2r.training.temporal import TAG, shuffle_frames, shuffled_frames_of, shuffled_rows
from p2r.training.trainer import ProcessAwareGRPOTrainer
from p2r.training.vllm_rollouts import VllmRollouts
from p2r.video import FrameCache

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow
WRONG = render("I see two.", "So three.", "3")


class TwoGroups(WithResponses, ProcessAwareGRPOTrainer):
    """Gives `responses` to the usual rollouts and `shuffled` to the others; keeps the frames."""

    shuffled: list[str]

    def _sample_from(self, prompts):
        first = not self.seen
        self.seen.append([frames.frames for frames in self.step.frames])
        self.given = self.responses if first else self.shuffled
        self.responses, kept = self.given, self.responses
        try:
            return super()._sample_from(prompts)
        finally:
            self.responses = kept


def run_step(model, media, question, tmp_path, responses, shuffled):
    settings = ["rl.credit=temporal", "rl.group_size=4", "rl.micro_batch=4"]
    trainer, cases = make_trainer(TwoGroups, model, media, [question], tmp_path, *settings)
    trainer.responses, trainer.shuffled, trainer.seen = responses, shuffled, []
    trainer.model.train()
    batch = trainer._generate_and_score_completions(generation([question], 4))
    return trainer, batch, cases


def test_frames_are_shuffled_the_same_way_in_every_start(questions, media):
    question, still = questions[0], questions[3]
    read = partial(data.read_frames, root=media, cache=FrameCache(None), **VIDEO)
    frames = read(question)
    mixed = shuffle_frames(frames, "1/long")
    assert not np.array_equal(mixed.frames, frames.frames)
    assert sorted(map(bytes, mixed.frames)) == sorted(map(bytes, frames.frames))
    assert mixed.timestamps == frames.timestamps
    again = shuffled_frames_of(lambda _: frames, 1)(question)
    assert np.array_equal(again.frames, mixed.frames)
    assert not np.array_equal(shuffle_frames(frames, "2/long").frames, mixed.frames)
    picture = read(still)
    assert shuffle_frames(picture, "1/still") is picture and shuffle_frames(None, "x") is None


@pytest.mark.parametrize(("shuffled", "earned"), [(WRONG, 0.3), (FULL, 0.0)])
def test_right_answers_earn_more_if_shuffled_frames_answer_worse(
    model_folder, media, questions, tmp_path, shuffled, earned
):
    trainer, batch, cases = run_step(
        model_folder, media, questions[0], tmp_path, [FULL, FULL, WRONG, WRONG], [shuffled] * 2
    )
    usual, mixed = trainer.seen
    assert len(usual) == 4 and len(mixed) == 2, "half as many shuffled rollouts"
    assert sorted(map(bytes, mixed[0])) == sorted(map(bytes, usual[0]))
    assert not np.array_equal(mixed[0], usual[0])
    gaps = trainer.step.rewards[:, 1].numpy() - [case.reasoning.total for case in cases]
    np.testing.assert_allclose(gaps, [earned, earned, 0, 0], atol=1e-6)
    assert [TAG in case.tags for case in cases] == [earned > 0, earned > 0, False, False]
    advantages = trainer.step.advantages
    assert (advantages[:, 0] == advantages[:, 1]).all() and advantages[0, 0] > 0 > advantages[2, 0]
    assert batch["advantages"].shape[0] == 4, "only the usual rollouts are learned from"
    logged = trainer._metrics["train"]
    assert logged["temporal/reward"][-1] == pytest.approx(earned / 2)


@pytest.mark.parametrize(("group", "each"), [(4, 6), (4, 3), (5, 5), (8, 4)])
def test_half_of_a_group_has_a_partner_however_the_rows_are_divided(questions, media, group, each):
    """`each`: rows of one worker. 120 rollouts, as 30, 24 or 15 groups."""
    frames = data.read_frames(questions[0], root=media, cache=FrameCache(None), **VIDEO)
    rows = []
    for first in range(0, 120, each):
        step = Step([questions[0]] * each, group, first_row=first)
        step.frames = [frames] * each
        rows += [first + row for row in shuffled_rows(step)]
    sizes = Counter(row // group for row in rows)
    assert set(sizes.values()) == {group // 2} and len(sizes) == 120 // group


def test_vllm_samples_the_second_group_with_other_seeds(questions):
    asked = []

    class Engine:
        def generate(self, requests, sampling):
            for request in requests:
                asked.append(request.key)
                yield Completion(key=request.key, token_ids=[1], prompt_tokens=1)

    rollouts = object.__new__(VllmRollouts)
    rollouts.recipe, rollouts.sampler = load_recipe("tiny"), SimpleNamespace(engine=Engine())
    rollouts.accelerator = SimpleNamespace(process_index=1)
    rollouts.trainer = SimpleNamespace(model=SimpleNamespace(training=True))
    for shuffled in (False, True):
        rollouts.trainer.step = Step(questions[:1], 1, 4, frames=[None], shuffled=shuffled)
        rollouts.generate([[7]], None, 1)
    assert asked == ["3/1/0", "shuffled/3/1/0"]


def test_images_have_no_second_group(model_folder, media, questions, tmp_path):
    responses = [FULL, FULL, WRONG, WRONG]
    trainer, _, cases = run_step(model_folder, media, questions[3], tmp_path, responses, [])
    assert len(trainer.seen) == 1 and shuffled_rows(trainer.step) == []
    totals = [case.reasoning.total for case in cases]
    assert trainer.step.rewards[:, 1].tolist() == pytest.approx(totals)


def test_a_short_run_of_t_grpo(taught_folder, media, tmp_path):
    settings = ["rl.credit=temporal", "rl.steps=2", "rl.group_size=4", "rl.max_tokens=60"]
    settings += ["rl.preflight=1"]
    out = tmp_path / "t_grpo"
    assert train(out, taught_folder, media, *settings) == out / "model"
    rows = read_lines(out / "metrics.jsonl")
    assert len(rows) == 2
    assert all(
        {"temporal/reward", "temporal/shuffled_accuracy", "kl"} <= row.keys() for row in rows
    )
    cases = [Case.model_validate(row) for row in read_lines(out / "rollouts.jsonl")]
    assert len(cases) == 2 * 2 * 4
    assert all(case.perception_advantage == case.reasoning_advantage for case in cases)
    assert read_json(out / "made.json")["rl"]["credit"] == "temporal"
