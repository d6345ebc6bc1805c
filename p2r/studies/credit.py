"""Whole experiments over seeds.

`compare_credits`: PA-GRPO against GRPO from one SFT model, several RL seeds each, on one test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from p2r import stages
from p2r.errors import UserError
from p2r.evaluation.run import METRICS
from p2r.records import Case
from p2r.runs import Run, open_run, write_json
from p2r.scoring import mean_interval
from p2r.stages.demo import CREDITS, train_both


def compare_credits(run: Run, seeds: Sequence[int]) -> dict[str, Any]:
    """Train and evaluate both credit schemes with each RL seed; writes `study_credit.json`.

    A seed has a run folder of its own below `studies/credit`; the run itself stands for its own
    seed, and all start from its SFT model. Resumable like every stage. Returns {stage or
    "difference": {metric: {"mean", "low", "high", "n", "per_seed"}}}: the intervals are over the
    test questions, each question's value being its mean over the seeds; the spread of `per_seed`
    is that of training. "difference" is PA-GRPO minus GRPO, question by question.
    """
    start = run.folder / "sft" / "model"
    if not start.is_dir():
        raise UserError(f"run {run.folder} has no SFT model yet: run `p2r demo` or `p2r sft` first")
    names = [stages.RL_STAGES[credit] for credit in CREDITS]
    values: dict[str, list[dict[str, list[float | None]]]] = {name: [] for name in names}
    for seed in seeds:
        part = _part(run, seed)
        train_both(part, start_model=str(start), **_inputs(run, part, "rl"))
        for name in names:
            model = str(part.folder / name / "model")
            cases, _ = stages.evaluate(part, model, name, **_inputs(run, part, "eval"))
            values[name].append(_values(cases))
    study: dict[str, Any] = {
        "seeds": list(seeds),
        "questions": len(values[names[0]][0]["accuracy"]),
    }
    for name in names:
        study[name] = {metric: _over_seeds(values[name], metric) for metric in METRICS}
    treated, control = (values[stages.RL_STAGES[credit]] for credit in ("process", "outcome"))
    study["difference"] = {
        metric: _over_seeds(
            [
                {metric: [_minus(a, b) for a, b in zip(p[metric], g[metric], strict=True)]}
                for p, g in zip(treated, control, strict=True)
            ],
            metric,
        )
        for metric in METRICS
    }
    write_json(run.path("study_credit.json"), study)
    return study


def _part(run: Run, seed: int) -> Run:
    if seed == run.recipe.seed:
        return run
    folder = run.folder / "studies" / "credit" / f"seed-{seed}"
    return open_run(folder, run.folder / "recipe.yaml", [f"seed={seed}"])


def _inputs(run: Run, part: Run, purpose: str) -> dict[str, Any]:
    """Questions and media of the run, for the runs of the other seeds."""
    if part is run:
        return {}
    file = run.folder / "data" / f"{stages.SPLITS[purpose]}.jsonl"
    if not file.is_file():
        raise UserError(f"{file} is missing: the study needs the run's own data, see `p2r demo`")
    return {"questions": file, "data_root": stages.find_data_root(run)}


def _values(cases: Sequence[Case]) -> dict[str, list[float | None]]:
    """Every metric of every question, in the order of their ids."""
    ordered = sorted(cases, key=lambda case: case.question.id)
    return {name: [measure(case) for case in ordered] for name, measure in METRICS.items()}


def _over_seeds(runs: Sequence[dict[str, list[float | None]]], metric: str) -> dict[str, Any]:
    grid = np.array([run[metric] for run in runs], dtype=float)  # (seeds, questions), NaN unknown
    known = grid[:, ~np.isnan(grid).all(axis=0)]
    return {
        **mean_interval(np.nanmean(known, axis=0)),
        "per_seed": [round(float(np.nanmean(row)), 6) for row in known],
    }


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
