"""How many steps of RL an arm needs to reach the value with which another arm ends."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from p2r.studies.base import Study
from p2r.studies.framework.curves import LAST, ArmCurves, Rows


def final_value(rows: Rows, window: int = LAST) -> float:
    """Return the mean of the last `window` steps of a curve that is not empty."""
    return float(np.mean([rows[step] for step in sorted(rows)[-window:]]))


def steps_to(rows: Rows, target: float, window: int = LAST) -> int | None:
    """Return the first step at which the mean of the last `window` steps is at least `target`.

    Returns None if the curve never reaches it. A shorter curve is one window.
    """
    steps = sorted(rows)
    window = min(window, len(steps)) or 1
    for end in range(window, len(steps) + 1):
        if np.mean([rows[step] for step in steps[end - window : end]]) >= target:
            return steps[end - 1]
    return None


def study_speed(study: Study, curves: ArmCurves) -> dict[str, dict[str, Any]]:
    """Return "CURVE to ARM" -> arm -> {"per_seed", "median", "reached"} for the pairs of `reach`.

    "per_seed" are steps, None for a seed that does not reach the end value of ARM with the same
    seed. "median" is over the seeds; it is None if at least half of them do not reach the value.
    "reached" counts the seeds that do.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, target in study.reach:
        targets = [_final(rows.get(name)) for rows in curves.get(target, ())]
        for arm, by_seed in curves.items():
            seeds = [
                steps_to(rows[name], value)
                for rows, value in zip(by_seed, targets, strict=True)
                if value is not None and name in rows
            ]
            if seeds:
                found.setdefault(f"{name} to {target}", {})[arm] = _over_seeds(seeds)
    return found


def _final(rows: Rows | None) -> float | None:
    return final_value(rows) if rows else None


def _over_seeds(steps: Sequence[int | None]) -> dict[str, Any]:
    never = float("inf")
    middle = median(never if step is None else step for step in steps)
    return {
        "per_seed": list(steps),
        "median": None if middle == never else middle,
        "reached": sum(step is not None for step in steps),
    }
