"""Means over seeds and questions, with three 95 % intervals. Pure functions over a grid.

A grid has one row per seed and one column per question. NaN is unknown. The value of a question is
its mean over the seeds, and the mean is over the questions.

| interval | resamples | how far the mean would move with |
|---|---|---|
| `low`, `high` | questions | other questions; the trained models stay |
| `over_seeds` | (t interval of the means per seed) | other seeds; the questions stay |
| `over_both` | seeds and questions, independently | other seeds and other questions |

`over_both` is the interval to report: it holds for another training and another test set. All
answers of one seed are a cluster, and so are all answers to one question. If several questions are
about one clip, whole clips are resampled. A bootstrap over two or three seeds is too narrow: then
look at `over_seeds` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from p2r.scoring import mean_interval

RESAMPLES = 2000
MEANING = {
    "low, high": "95 % bootstrap over the questions. The trained models stay the same.",
    "over_seeds": "95 % t interval of the means per seed. The questions stay the same.",
    "over_both": "95 % bootstrap that resamples seeds and questions independently: the interval of "
    "tables and figures. With one seed it is the interval over the questions. With two or three "
    "seeds it is too narrow: look at over_seeds too.",
    "difference": "Paired: the same question, answered by two models of the same seed. A question "
    "counts if both values are known.",
}


def measure_grid(
    grid: np.ndarray, clips: Sequence[int] | np.ndarray | None = None
) -> dict[str, Any]:
    """Return {"mean", "low", "high", "n", "per_seed", "over_seeds", "over_both"} of a grid.

    `clips` has the number of the clip of each column, if clips have several questions. Then
    "clusters" counts the clips.
    """
    known = ~np.isnan(grid).all(axis=0)
    grid = grid[:, known]
    places = np.arange(grid.shape[1])
    if clips is not None:
        _, places = np.unique(np.asarray(clips)[known], return_inverse=True)
    per_seed = [_mean(row) for row in grid]
    result: dict[str, Any] = mean_interval(np.nanmean(grid, axis=0) if grid.size else [])
    over_both: Any = None
    if clips is not None and grid.size:
        result |= _resample(grid, places, seeds=False) | {"clusters": int(places.max()) + 1}
    if grid.size:
        over_both = {end: result[end] for end in ("low", "high")}
    if grid.size and len(grid) > 1:
        over_both = _resample(grid, places, seeds=True)
    return {
        **result,
        "per_seed": per_seed,
        "over_seeds": t_interval([mean for mean in per_seed if mean is not None]),
        "over_both": over_both,
    }


def t_interval(means: Sequence[float]) -> dict[str, float] | None:
    """Return the 95 % t interval of the mean of a few values; None for fewer than two."""
    if len(means) < 2:
        return None
    from scipy.stats import t  # takes a second to import

    half = float(t.ppf(0.975, len(means) - 1)) * float(np.std(means, ddof=1)) / len(means) ** 0.5
    mean = float(np.mean(means))
    return {"low": mean - half, "high": mean + half}


def _resample(grid: np.ndarray, places: np.ndarray, seeds: bool) -> dict[str, float]:
    """Return the percentile interval over resampled clips and, if `seeds`, resampled seeds."""
    random = np.random.default_rng(0)
    filled, known = np.nan_to_num(grid), (~np.isnan(grid)).astype(float)
    rows = np.ones((1, len(grid)))
    if seeds:
        rows = _draw(random, len(grid))
    counts = rows @ known  # (draws, questions): how many known values a question has
    values = np.divide(rows @ filled, counts, out=np.zeros_like(counts), where=counts > 0)
    weights = _draw(random, int(places.max()) + 1)[:, places] * (counts > 0)
    total = weights.sum(axis=1)
    means = (weights * values).sum(axis=1)[total > 0] / total[total > 0]
    low, high = np.quantile(means, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}


def _draw(random: np.random.Generator, count: int) -> np.ndarray:
    """Return how often each of `count` items is in each resample, shape (RESAMPLES, count)."""
    return random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)


def _mean(row: np.ndarray) -> float | None:
    known = row[~np.isnan(row)]
    return round(float(known.mean()), 6) if known.size else None
