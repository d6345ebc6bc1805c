"""Dynamic sampling (DAPO, arXiv 2503.14476): replaces the collapsed groups of a step by new groups.

A group whose rewards are all equal has no advantage and teaches nothing. With `rl.dynamic_sampling`
a step scores its rollouts at once, draws other questions for the collapsed groups, samples them,
and repeats this up to `rl.dynamic_rounds` times. After that, collapsed groups stay in the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from p2r.records import Question
from p2r.rewards import PROCESSES, collapsed, rewards_in_use
from p2r.runs.recipe import RlSettings
from p2r.training import step as pa_grpo
from p2r.training.observation_watch import listen
from p2r.training.stage import workers
from p2r.training.step import Step


def collapsed_groups(step: Step, settings: RlSettings) -> list[int]:
    """Return the places of the groups of a scored step that must be replaced.

    "all": groups that have collapsed for every process that the training learns from; "any": for at
    least one of these processes; "perception" or "reasoning": for that process.
    """
    flat = np.asarray(collapsed(step.rewards.numpy(), step.group_size), dtype=bool)
    wanted = settings.dynamic_sampling
    used = (wanted,) if wanted in PROCESSES else rewards_in_use(settings.credit, settings.rewards)
    columns = flat[:, [PROCESSES.index(process) for process in used]]
    chosen = columns.any(1) if wanted == "any" else columns.all(1)
    return np.flatnonzero(chosen).tolist()


def replace_collapsed(trainer: Any) -> None:
    """Replace collapsed groups of the trainer's step.

    Before, its rollouts must be sampled and sent to the judge. Afterwards, the step is scored. All
    workers must call this together.
    """
    step, settings = trainer.step, trainer.settings
    trainer.score_step()
    groups = len(step.cases) // step.group_size
    sampled, empty, cost = groups, len(collapsed_groups(step, settings)), 0.0
    rounds = 0
    for _ in range(settings.dynamic_rounds):
        asked = trainer.substitutes.draw_all(collapsed_groups(step, settings))
        if not asked:
            break
        rounds += 1
        new = _sample_groups(trainer, asked)
        sampled += len(asked)
        empty += len(collapsed_groups(new, settings))
        cost += _put(step, new, list(asked))
    step.metrics |= {
        "dynamic/rounds": float(rounds),
        "dynamic/replaced": float(sampled - groups),
        "dynamic/collapse_sampled": empty / sampled,
        "dynamic/collapse": len(collapsed_groups(step, settings)) / groups,
        "dynamic/judge_cost": cost,
    }


def _sample_groups(trainer: Any, asked: dict[int, Question]) -> Step:
    """Return a scored step of new groups: one for each place of the trainer's step."""
    step: Step = trainer.step
    rows = _rows_of(step, list(asked), step.own)
    before = len(_rows_of(step, list(asked), slice(0, step.first_row)))
    questions = [asked[row // step.group_size] for row in rows]
    # All workers sample together. A worker without rows samples one row, which is thrown away.
    idle = not rows and workers().num_processes > 1
    new = replace(
        Step(questions or step.questions[:1], step.group_size, step.number, before),
        trace_fields=step.trace_fields,
    )
    trainer.step = new  # the sampler reads it
    try:
        if not idle:
            listen(new, trainer.judge)
        trainer.sample(new, trainer.frames_of)
        if idle:
            for name in ("questions", "frames", "prompts", "completions", "texts", "truncated"):
                setattr(new, name, [])
        pa_grpo.judge(new, trainer.judge)
        trainer.score_step()
    finally:
        trainer.step = step
    return new


def _rows_of(step: Step, places: Sequence[int], part: slice) -> list[int]:
    """Return the rows of the groups at `places` inside a part. Rows count over all workers."""
    chosen = set(places)
    return [row for row in range(part.start, part.stop) if row // step.group_size in chosen]


def _put(step: Step, new: Step, places: list[int]) -> float:
    """Put the groups of `new` into a step; return the cost of the verdicts on those replaced."""
    rows = _rows_of(step, places, slice(0, len(step.cases)))
    cost = 0.0
    for row, case, rewards in zip(rows, new.cases, new.rewards, strict=True):
        leaving = step.cases[row].verdict
        cost += leaving.cost if leaving else 0.0
        step.cases[row], step.rewards[row] = case, rewards
    for place, row in enumerate(_rows_of(step, places, step.own)):
        mine = row - step.first_row
        for name in ("questions", "frames", "prompts", "completions", "texts", "truncated"):
            getattr(step, name)[mine] = getattr(new, name)[place]
        if step.sampling_log_probs is not None:
            assert new.sampling_log_probs is not None  # the same sampler made both
            step.sampling_log_probs[mine] = new.sampling_log_probs[place]
    step.judge_calls += new.judge_calls
    for part, seconds in new.seconds.items():
        step.seconds[part] += seconds
    return cost
