"""Validation while RL runs: held-out questions, sampled as in a step but without the judge.

The accuracy is the share of correct answers among `group_size` rollouts of each held-out question.
It costs no judge calls and does not change the training. The checkpoint with the highest accuracy
is marked in `best.json` and kept (see `p2r.training.finish`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from p2r.errors import TrainingError
from p2r.files.atomic import write_json
from p2r.records import Case, Question
from p2r.training.probe import round_up, same_randomness, sample_groups, undone
from p2r.training.stage import append_lines
from p2r.training.step_judge import StepJudge
from p2r.training.trainer import ProcessAwareGRPOTrainer


def hold_out(
    questions: Sequence[Question],
    count: int,
    seed: int,
    find_fault: Callable[[Question], str | None],
) -> tuple[list[Question], list[Question]]:
    """Return the questions to train on and `count` random ones to validate on.

    Questions that RL cannot ask are not held out: `find_fault` returns the reason. Raises
    `TrainingError` if there are too few questions.
    """
    generator = torch.Generator().manual_seed(seed)
    held: dict[str, Question] = {}
    for index in torch.randperm(len(questions), generator=generator).tolist():
        if len(held) == count:
            break
        question = questions[index]
        if find_fault(question) is None:
            held[question.id] = question
    if len(held) < count or len(held) == len(questions):
        raise TrainingError(
            f"{len(questions)} questions are too few to hold out {count} for validation: lower "
            "rl.validate_questions, or set rl.validate_every=0"
        )
    return [question for question in questions if question.id not in held], list(held.values())


class Validation(TrainerCallback):
    """Validates every `every` steps and after the last one; writes `out/validation.jsonl`."""

    def __init__(
        self, trainer: ProcessAwareGRPOTrainer, questions: Sequence[Question], every: int, out: Path
    ) -> None:
        self.trainer, self.questions, self.every, self.out = trainer, questions, every, out

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Validate if it is time; a new best step gets a checkpoint."""
        step = state.global_step
        if step % self.every and step != state.max_steps:
            return
        cases = sample_held_out(self.trainer, self.questions)
        known = [case.accuracy for case in cases if case.accuracy is not None]
        accuracy = sum(known) / len(known)
        best = state.best_metric is None or accuracy > state.best_metric
        if best:
            state.best_metric, state.best_global_step = accuracy, step
            control.should_save = True
        if state.is_world_process_zero:
            row = {
                "step": step,
                "accuracy": accuracy,
                "in_template": sum(not case.trace.problems for case in cases) / len(cases),
                "questions": len(self.questions),
                "rollouts": len(cases),
                "best": best,
            }
            append_lines(self.out / "validation.jsonl", [row])
            if best:
                write_json(self.out / "best.json", {"step": step, "accuracy": accuracy})


def sample_held_out(trainer: ProcessAwareGRPOTrainer, questions: Sequence[Question]) -> list[Case]:
    """Return the scored rollouts of the questions, in chunks as large as a step; asks no judge."""
    size, chunk = trainer.settings.group_size, trainer.settings.prompts_per_step
    cases: list[Case] = []
    with undone(trainer), same_randomness():
        trainer.judge = StepJudge(None, 0.0, 0)
        # Validation needs no second group, no critic and no masked frames.
        plain = {"credit": "process", "perception_loss": 0.0}
        trainer.settings = trainer.settings.model_copy(update=plain)
        for start in range(0, len(questions), chunk):
            asked = list(questions[start : start + chunk])
            filled = (asked * round_up(trainer, len(asked)))[: round_up(trainer, len(asked))]
            cases += sample_groups(trainer, filled).cases[: len(asked) * size]
    return cases
