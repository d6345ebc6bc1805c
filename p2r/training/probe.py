"""Samples rollouts in the middle of an RL training without changing the training.

The preflight and the validation use this.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from math import ceil, gcd
from typing import Any

import numpy as np
import torch

from p2r.records import Question
from p2r.training.step import Step
from p2r.training.step_judge import JudgeWatch
from p2r.training.trainer import ProcessAwareGRPOTrainer

_REPLACED = (
    "on_rollouts",
    "watch",
    "step",
    "judge",
    "settings",
    "substitutes",
    "overlap",
)  # attributes of the trainer


def round_up(trainer: ProcessAwareGRPOTrainer, groups: int) -> int:
    """Return the next number of groups that gives every worker the same number of rollouts."""
    workers = trainer.accelerator.num_processes
    unit = workers // gcd(workers, trainer.settings.group_size)
    return ceil(groups / unit) * unit


def sample_groups(trainer: ProcessAwareGRPOTrainer, questions: Sequence[Question]) -> Step:
    """Sample and score a group of rollouts for each question, as in a step; return that step.

    Use it inside `undone`, with a number of questions from `round_up`.
    """
    asked = [question for question in questions for _ in range(trainer.settings.group_size)]
    each = len(asked) // trainer.accelerator.num_processes
    first = trainer.accelerator.process_index * each
    trainer.on_rollouts = lambda cases: None  # these rollouts belong to no step
    trainer.watch = JudgeWatch(1.0)
    trainer.model.train()
    trainer._run_step(rows_of(asked[first : first + each]))  # saves no checkpoint on an error
    return trainer.step


def rows_of(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Return the rows of the training's data set."""
    return [{"prompt": question.problem, "question": question.id} for question in questions]


@contextmanager
def undone(trainer: ProcessAwareGRPOTrainer) -> Iterator[None]:
    """Undo every change of the block to the trainer, and remove its gradients."""
    kept = {name: deepcopy(getattr(trainer, name)) for name in ("_metrics", "_logs")}
    kept |= {name: getattr(trainer, name) for name in _REPLACED}
    training, seen = trainer.model.training, trainer.state.num_input_tokens_seen
    critic = trainer.critic
    learned = {} if critic is None else critic.state()
    trainer.substitutes = trainer.overlap = None
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(trainer, name, value)
        trainer.state.num_input_tokens_seen = seen
        trainer.model.train(training)
        if critic is not None:
            critic.set_state(learned)
        for parameter in trainer.model.parameters():  # DeepSpeed's own `zero_grad` differs
            parameter.grad = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def same_randomness() -> Iterator[None]:
    """Restore the state of all random number generators after the block."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
