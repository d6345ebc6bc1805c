"""What all studies share: the run folders of the seeds, the statistics, the result file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from p2r import stages
from p2r.errors import UserError
from p2r.evaluation.run import METRICS
from p2r.records import Case
from p2r.runs import Run, open_run, write_json
from p2r.scoring import mean_interval

Values = dict[str, np.ndarray]  # metric -> one value per question; NaN: unknown


@dataclass(frozen=True)
class SeedRun:
    """One seed of a study: its own run folder, and the main run that the study belongs to."""

    run: Run
    main: Run

    def inputs(self, split: str) -> dict[str, Any]:
        """Return the questions and the media folder of the main run, as arguments for a stage.

        `split` is a key of `stages.SPLITS`, for example "rl". The main run needs no arguments.
        """
        if self.run is self.main:
            return {}
        file = self.main.folder / "data" / f"{stages.SPLITS[split]}.jsonl"
        if not file.is_file():
            raise UserError(f"{file} is missing: run `p2r demo` first, which writes it")
        return {"questions": file, "data_root": stages.find_data_root(self.main)}


@dataclass(frozen=True)
class Study:
    """An experiment: several arms, each evaluated with every seed on the same questions.

    `arms` are in the order of the table. `difference` names two arms: the study reports the first
    minus the second. `evaluate` trains and evaluates all arms for one seed, and returns the cases
    of each arm. It must be resumable, like a stage.
    """

    name: str
    arms: tuple[str, ...]
    difference: tuple[str, str]
    evaluate: Callable[[SeedRun], Mapping[str, Sequence[Case]]]


def run_study(study: Study, run: Run, seeds: Sequence[int]) -> dict[str, Any]:
    """Evaluate every arm with every seed, and write `study_NAME.json` into the run.

    Each seed has its own run folder below `studies/NAME`; the main run is used for its own seed.
    Returns {"seeds", "questions", arm or "difference": {metric: {"mean", "low", "high", "n",
    "per_seed"}}}. The intervals are over the questions: the value of a question is its mean over
    the seeds. `per_seed` shows how much the training varies.
    """
    values: dict[str, list[Values]] = {arm: [] for arm in study.arms}
    for seed in seeds:
        cases = study.evaluate(SeedRun(_run_of_seed(study, run, seed), run))
        for arm in study.arms:
            values[arm].append(_values(cases[arm]))
    treatment, control = (values[arm] for arm in study.difference)
    difference = [
        {metric: a[metric] - b[metric] for metric in METRICS}
        for a, b in zip(treatment, control, strict=True)
    ]
    result = {
        "seeds": list(seeds),
        "questions": len(treatment[0]["accuracy"]),
        **{arm: _over_seeds(values[arm]) for arm in study.arms},
        "difference": _over_seeds(difference),
    }
    write_json(run.path(f"study_{study.name}.json"), result)
    return result


def _run_of_seed(study: Study, run: Run, seed: int) -> Run:
    if seed == run.recipe.seed:
        return run
    folder = run.folder / "studies" / study.name / f"seed-{seed}"
    return open_run(folder, run.folder / "recipe.yaml", [f"seed={seed}"])


def _values(cases: Sequence[Case]) -> Values:
    """Return every metric of every question, ordered by the ids of the questions."""
    ordered = sorted(cases, key=lambda case: case.question.id)
    return {
        name: np.array([measure(case) for case in ordered], dtype=float)
        for name, measure in METRICS.items()
    }


def _over_seeds(values: Sequence[Values]) -> dict[str, dict[str, Any]]:
    return {metric: _interval([of_seed[metric] for of_seed in values]) for metric in METRICS}


def _interval(values: Sequence[np.ndarray]) -> dict[str, Any]:
    grid = np.stack(values)  # (seeds, questions)
    known = grid[:, ~np.isnan(grid).all(axis=0)]
    return {
        **mean_interval(np.nanmean(known, axis=0)),
        "per_seed": [_mean(row) for row in grid],
    }


def _mean(row: np.ndarray) -> float | None:
    known = row[~np.isnan(row)]
    return round(float(known.mean()), 6) if known.size else None
