"""Statistics of scores: means with bootstrap intervals, and McNemar's test."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

_FEW = 64  # distinct values


def mean_interval(
    values: Iterable[float | None], seed: int = 0, n_boot: int = 2000, level: float = 0.95
) -> dict[str, float | int | None]:
    """Return the mean of the known values with a percentile bootstrap interval.

    None and NaN are unknown and are left out. Returns {"mean", "low", "high", "n"}. Without any
    known value, n is 0 and the other values are None.
    """
    known = np.array([math.nan if value is None else value for value in values], dtype=float)
    known = known[~np.isnan(known)]
    if not known.size:
        return {"mean": None, "low": None, "high": None, "n": 0}
    return to_interval(known.mean(), resample_means(known, seed, n_boot), known.size, level)


def resample_means(known: np.ndarray, seed: int = 0, n_boot: int = 2000) -> np.ndarray:
    """Return the means of `n_boot` resamples with replacement.

    If many values share few distinct ones, only their counts are drawn. The distribution is the
    same, and this is much faster.
    """
    random = np.random.default_rng(seed)
    if known.size > 1000:
        values, counts = np.unique(known, return_counts=True)
        if values.size <= _FEW:
            shares = counts / known.size
            return random.multinomial(known.size, shares, size=n_boot) @ values / known.size
    rows = max(1, 2_000_000 // known.size)  # resamples per batch: limits the memory
    return np.concatenate(
        [
            known[random.integers(known.size, size=(min(rows, n_boot - done), known.size))].mean(
                axis=1
            )
            for done in range(0, n_boot, rows)
        ]
    )


def to_interval(
    mean: float, drawn: np.ndarray, n: int, level: float = 0.95
) -> dict[str, float | int | None]:
    """Return a mean with the percentile interval of its resampled values."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return {"mean": float(mean), "low": float(low), "high": float(high), "n": int(n)}


def format_interval(interval: dict[str, Any] | None, digits: int = 0, between: str = "–") -> str:
    """Format a mean and its interval in percent, as `63.0 [57–68]`; a dash if there is none.

    `digits` is the number of decimals of the interval, `between` separates its ends. Use ", "
    for numbers that may be negative. A number with a `unit` is no share: it has two decimals.
    """
    if not interval or interval["mean"] is None:
        return "–"
    if "unit" in interval:
        return "{mean:.2f} [{low:.2f}{between}{high:.2f}]".format(**interval, between=between)
    if interval["low"] is None:
        return f"{100 * interval['mean']:.1f}"
    mean, low, high = (100 * interval[key] for key in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.{digits}f}{between}{high:.{digits}f}]"


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    `only_a` and `only_b` count the items that only one of two models gets right. The p-value is the
    chance of a split at least as uneven as this one, if both models were equally likely to be the
    one that is right. It is 1 if there is no such item.
    """
    from scipy.stats import binomtest  # takes a second to import

    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
