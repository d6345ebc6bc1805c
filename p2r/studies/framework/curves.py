"""Metrics over the steps of RL: of the rollouts, and of the trainer's log."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from p2r.files.jsonlines import from_line
from p2r.plots import drawable, lost_metric
from p2r.records import Case
from p2r.runs import read_json, write_json
from p2r.runs.metrics import read_metrics
from p2r.studies.base import Measure, Study
from p2r.studies.framework.intervals import t_interval
from p2r.studies.framework.measures import MEASURES, measure_case
from p2r.studies.framework.work import Plan, Training

log = logging.getLogger(__name__)

Rows = dict[int, float]  # step -> value
ArmCurves = Mapping[str, Sequence[Mapping[str, Rows]]]  # arm -> one entry per seed: name -> curve
LAST = 10  # steps at the end of the training, for one number per curve


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read a JSON lines file. Skip damaged lines and an incomplete last line.

    Returns [] if the file is missing. A killed worker or a full disk can damage a line.
    """
    if not file.is_file():
        return []
    rows = []
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        try:
            rows.append(from_line(line))
        except ValueError:
            log.warning("%s: a damaged line is skipped", file)
    return [row for row in rows if isinstance(row, dict)]


def rollout_curves(file: Path, measures: Mapping[str, Measure]) -> dict[str, Rows]:
    """Return the mean of every metric over the rollouts of each step, where it is known."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in read_rows(file):
        case = Case.model_validate(record)
        for name, value in measure_case(case, measures).items():
            found[name][case.trace.step or 0].append(value)
    return {
        name: {step: float(np.mean(values)) for step, values in sorted(steps.items())}
        for name, steps in found.items()
    }


def log_curves(out: Path, credit: str, rewards: Sequence[str]) -> dict[str, Rows]:
    """Return every number of `metrics.jsonl` by step, and "lost".

    "lost" is the share of groups without a learning signal: all rewards that the credit scheme uses
    are equal.
    """
    found: dict[str, Rows] = defaultdict(dict)
    lost = lost_metric(credit, rewards)
    for row in read_metrics(out / "metrics.jsonl"):
        for name, value in {**row, "lost": row.get(lost) if lost else None}.items():
            if name != "step" and (number := drawable(value)) is not None:
                found[name][int(row["step"])] = number
    return dict(found)


def training_curves(training: Training, own: Mapping[str, Measure]) -> dict[str, Rows]:
    """Return all curves of a finished RL training.

    The curves of p2r's own metrics are kept in `curves.json`, because they take seconds. `own` are
    the metrics of the study.
    """
    kept = training.run.path("curves.json")
    rollouts = training.out / "rollouts.jsonl"
    if kept.is_file() and set(MEASURES) <= set(read_json(kept)["measures"]):
        stored = read_json(kept)["curves"]
        found = {n: {int(step): v for step, v in rows.items()} for n, rows in stored.items()}
    else:
        found = rollout_curves(rollouts, MEASURES)
        write_json(kept, {"measures": sorted(MEASURES), "curves": found})
    rl = training.run.recipe.rl
    found |= rollout_curves(rollouts, own) if own else {}
    return log_curves(training.out, rl.credit, rl.rewards) | found


def arm_curves(plan: Plan) -> ArmCurves:
    """Return all curves of every arm that RL trains, one entry per seed; {} without `curves`."""
    if not plan.study.curves:
        return {}
    return {
        arm.name: [
            training_curves(training, dict(plan.study.metrics))
            for seed in plan.seeds
            if (training := plan.model(arm.name, seed).training) is not None
        ]
        for arm in plan.arms
        if "rl" in arm.train
    }


def study_curves(
    study: Study, by_arm: ArmCurves
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the curves of a study and their differences.

    Curves: name -> arm -> {"steps", "mean", "low", "high", "last", "all"}. "mean" is over the
    seeds, with the 95 % t interval over the seeds. "last" and "all" are the means of the last steps
    and of all steps, with the value of every seed. Differences: name -> "ARM - ARM" -> the same,
    paired by seed and step.
    """
    curves: dict[str, dict[str, Any]] = {}
    differences: dict[str, dict[str, Any]] = {}
    for name in study.curves:
        for arm, by_seed in by_arm.items():
            if rows := [found[name] for found in by_seed if name in found]:
                curves.setdefault(name, {})[arm] = _over_seeds(rows)
        for a, b in study.differences:
            pairs = zip(by_arm.get(a, ()), by_arm.get(b, ()), strict=False)
            rows = [_minus(x[name], y[name]) for x, y in pairs if name in x and name in y]
            if rows:
                differences.setdefault(name, {})[f"{a} - {b}"] = _over_seeds(rows)
    return curves, differences


def _minus(first: Rows, second: Rows) -> Rows:
    return {step: value - second[step] for step, value in first.items() if step in second}


def _over_seeds(rows: Sequence[Rows]) -> dict[str, Any]:
    steps = sorted(set.intersection(*(set(row) for row in rows)))
    values = [[row[step] for row in rows] for step in steps]
    ends = [_mean(each) for each in values]
    return {
        "steps": steps,
        **{key: [end[key] for end in ends] for key in ("mean", "low", "high")},
        "last": _over_steps(rows, steps[-LAST:]),
        "all": _over_steps(rows, steps),
    }


def _over_steps(rows: Sequence[Rows], steps: Sequence[int]) -> dict[str, Any]:
    """Return the mean over steps and seeds, with its interval and the mean of every seed."""
    means = [float(np.mean([row[step] for step in steps])) for row in rows if steps]
    return {**_mean(means), "per_seed": means, "steps": len(steps)}


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    """Return the mean of the seeds with its 95 % t interval; None is unknown."""
    unknown = {"low": None, "high": None}
    return {"mean": float(np.mean(values)) if values else None, **(t_interval(values) or unknown)}
