"""From scored items to the numbers of a benchmark: its mean and its parts by name.

Every number is {"mean", "low", "high", "n"} with a 95 % bootstrap interval. Items whose score is
None are unknown and are left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from p2r.evaluation.benchmark import Interval, Item
from p2r.scoring import mean_interval, resample_means, to_interval


def split_scores(items: Iterable[Item], extractor: str, axis: str) -> dict[str, list[float | None]]:
    """Return the scores by the items' value on an axis."""
    groups: dict[str, list[float | None]] = defaultdict(list)
    for item in items:
        if value := item.parts.get(axis):
            groups[value].append(item.score[extractor])
    return dict(groups)


def mean_of_groups(groups: Sequence[Sequence[float | None]], seed: int = 0) -> Interval:
    """Return the unweighted mean of the means of groups. Each group is resampled by itself.

    Empty groups are left out. n counts the items of all groups.
    """
    return combine([GroupMean.of(values, seed + k) for k, values in enumerate(groups)])


class GroupMean:
    """A mean with its resampled means, so that a mean of means gets an interval."""

    def __init__(self, mean: float, drawn: np.ndarray, n: int) -> None:
        self.mean, self.drawn, self.n = mean, drawn, n

    @classmethod
    def of(cls, values: Iterable[float | None], seed: int) -> GroupMean | None:
        """Return the mean of the known values, or None if there are none."""
        known = np.array([v for v in values if v is not None and not math.isnan(v)], dtype=float)
        if not known.size:
            return None
        return cls(float(known.mean()), resample_means(known, seed), int(known.size))

    @classmethod
    def average(cls, groups: Sequence[GroupMean]) -> GroupMean:
        """Return the unweighted mean of groups."""
        mean = sum(group.mean for group in groups) / len(groups)
        drawn = np.mean([group.drawn for group in groups], axis=0)
        return cls(mean, drawn, sum(group.n for group in groups))


def combine(groups: Sequence[GroupMean | None]) -> Interval:
    """Return the unweighted mean of groups as an interval. None stands for an empty group."""
    known = [group for group in groups if group is not None]
    if not known:
        return mean_interval([])
    whole = GroupMean.average(known)
    return to_interval(whole.mean, whole.drawn, whole.n)
