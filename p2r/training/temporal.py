"""The second group of T-GRPO (`rl.credit=temporal`): rollouts on frames in random order.

`p2r.training.trainer` samples the group after the usual rollouts of a step. Only the accuracy of
its answers is used, by `p2r.rewards.temporal_rewards`. Every second rollout of a video question has
a shuffled partner. So the second group has half the size (rounded down), as in Video-R1.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object

from p2r.records import Question
from p2r.rewards import temporal_rewards
from p2r.scoring import accuracy
from p2r.template import parse
from p2r.training.stage import workers
from p2r.training.step import FramesOf, Step
from p2r.video import Frames

TAG = "temporal reward"  # on the cases that earned it


def shuffle_frames(frames: Frames | None, seed: str) -> Frames | None:
    """Return the frames in a random order that depends only on `seed`; the times stay in place.

    A picture, a clip of one frame and None are returned as they are.
    """
    if frames is None or len(frames) < 2:
        return frames
    digest = hashlib.sha256(seed.encode()).digest()
    order = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(len(frames))
    return replace(frames, frames=frames.frames[order])


def shuffled_frames_of(frames_of: FramesOf, step: int) -> FramesOf:
    """Return a function like `frames_of` that shuffles; the order depends on question and step."""

    def shuffled(question: Question) -> Frames | None:
        return shuffle_frames(frames_of(question), f"{step}/{question.id}")

    return shuffled


def shuffled_rows(step: Step) -> list[int]:
    """Return the rows of this worker that get a shuffled partner: rollouts 1, 3, 5 … of each video.

    So a group of G has G // 2 partners, however its rows are divided between the workers. A worker
    without such a row takes its first row, because all workers must sample together. The accuracy
    of that rollout is not used.
    """
    rows = [
        row
        for row, frames in enumerate(step.frames)
        if has_order(frames) and _has_partner(step, row)
    ]
    return rows or ([0] if workers().num_processes > 1 else [])


def sample_shuffled(trainer: Any) -> list[float]:
    """Sample the second group of the trainer's step; return its `shuffled_accuracies`."""
    step = trainer.step
    rows = shuffled_rows(step)
    shuffled = trainer.step = shuffled_step(step, rows)  # the sampler reads it
    try:
        if rows:
            trainer.sample(shuffled, shuffled_frames_of(trainer.frames_of, step.number))
    finally:
        trainer.step = step
    step.seconds["shuffled"] += sum(shuffled.seconds.values())
    return shuffled_accuracies(step, rows, shuffled.texts)


def _has_partner(step: Step, row: int) -> bool:
    return (step.first_row + row) % step.group_size % 2 == 1


def has_order(frames: Frames | None) -> bool:
    """Return whether the frames can be shuffled."""
    return frames is not None and len(frames) > 1


def shuffled_step(step: Step, rows: list[int]) -> Step:
    """Return a step without rollouts that asks the questions of these rows."""
    asked = [step.questions[row] for row in rows]
    return Step(asked, group_size=1, number=step.number, shuffled=True)


def shuffled_accuracies(step: Step, rows: list[int], texts: list[str]) -> list[float]:
    """Return the accuracy of each row's shuffled partner (B values), NaN where there is none."""
    found = [math.nan] * len(step.questions)
    for row, text in zip(rows, texts, strict=True):
        question = step.questions[row]
        right = accuracy(
            question.problem_type, parse(text).answer, question.answer, question.options
        )
        if right is not None and has_order(step.frames[row]) and _has_partner(step, row):
            found[row] = right
    return found


def add_temporal_rewards(step: Step, shuffled: list[float]) -> dict[str, float]:
    """Add the temporal reward to R_R of a scored step; return numbers for the log.

    `shuffled`: this worker's `shuffled_accuracies`. All workers must call this together. Cases that
    earned the reward get the tag `TAG`.
    """
    known = torch.tensor(gather_object(list(shuffled)), dtype=torch.float64)
    right = [math.nan if case.accuracy is None else case.accuracy for case in step.cases]
    ordered = torch.tensor(right, dtype=torch.float64)
    added = temporal_rewards(ordered, known, step.group_size)
    step.rewards[:, 1] += added.to(step.rewards.dtype)
    for case, bonus in zip(step.cases, added.tolist(), strict=True):
        if bonus:
            case.tags = [*case.tags, TAG]
    return {
        "temporal/reward": added.mean().item(),
        "temporal/shuffled_accuracy": known.nanmean().item(),
    }
