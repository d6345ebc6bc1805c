"""From scored items to means with 95 % bootstrap intervals.

Every number is {"mean", "low", "high", "n"}. Items whose score is None are unknown and are left
out. If several items are about one clip, their scores are not independent. Then whole clips are
resampled, and the number also has "clusters": the number of clips.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from p2r.evaluation.benchmark import Interval, Item
from p2r.scoring import mean_interval, resample_means, to_interval

RESAMPLES = 2000
_CELLS = 10**8  # most numbers in the table of draws; more clips get fewer resamples

Values = Iterable[float | None]


def split_positions(items: Sequence[Item], axis: str) -> dict[str, list[int]]:
    """Return the positions of the items by their value on an axis."""
    groups: dict[str, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        if value := item.parts.get(axis):
            groups[value].append(position)
    return dict(groups)


class GroupMean:
    """A mean with its resampled means, so that a mean of means gets an interval.

    `clips` marks the clips of the group, if clips are resampled.
    """

    def __init__(
        self, mean: float, drawn: np.ndarray, n: int, clips: np.ndarray | None = None
    ) -> None:
        self.mean, self.drawn, self.n, self.clips = mean, drawn, n, clips

    @classmethod
    def of(cls, values: Values, seed: int = 0) -> GroupMean | None:
        """Return the mean of the known values, or None if there are none."""
        known = _known(values)
        known = known[~np.isnan(known)]
        if not known.size:
            return None
        return cls(float(known.mean()), resample_means(known, seed), int(known.size))

    @classmethod
    def average(cls, groups: Sequence[GroupMean]) -> GroupMean:
        """Return the unweighted mean of groups."""
        mean = sum(group.mean for group in groups) / len(groups)
        drawn = np.mean([group.drawn for group in groups], axis=0)
        marks = [group.clips for group in groups if group.clips is not None]
        clips = np.any(marks, axis=0) if marks else None
        return cls(mean, drawn, sum(group.n for group in groups), clips)

    def interval(self) -> Interval:
        """Return the mean with its interval."""
        found = to_interval(self.mean, self.drawn, self.n)
        return found if self.clips is None else {**found, "clusters": int(self.clips.sum())}


def combine(groups: Sequence[GroupMean | None]) -> Interval:
    """Return the unweighted mean of groups as an interval. None stands for an empty group."""
    known = [group for group in groups if group is not None]
    return GroupMean.average(known).interval() if known else mean_interval([])


class Clips:
    """The clips that a list of items is about. An item without a clip counts as a separate clip.

    `clustered` is true if a clip has several items. Then `group` and `interval` resample clips,
    with the same draws for every group. So a mean over groups keeps the clips together, too.
    """

    def __init__(self, names: Iterable[str]) -> None:
        names = list(names)
        self.items = len(names)
        self.clustered = any(n > 1 for name, n in Counter(names).items() if name)
        known: dict[str | int, int] = {}
        places = [known.setdefault(name or place, len(known)) for place, name in enumerate(names)]
        self.count, self._places = len(known), np.array(places, dtype=int)

    @classmethod
    def of(cls, items: Iterable[Item]) -> Clips:
        """Return the clips of items."""
        return cls(item.clip for item in items)

    def describe(self) -> str:
        """Return how intervals are made, in one line."""
        what = f"{self.count:,} clips ({self.items:,} items)" if self.clustered else "items"
        return f"95 % bootstrap, {RESAMPLES:,} resamples of {what}"

    def group(
        self, values: Values, positions: Sequence[int] | None = None, seed: int = 0
    ) -> GroupMean | None:
        """Return the mean of the known values, or None if there are none.

        `positions` says which items the values belong to (default: all, in order).
        """
        if not self.clustered:
            return GroupMean.of(values, seed)
        numbers = _known(values)
        places = self._places if positions is None else self._places[np.array(positions, int)]
        known = ~np.isnan(numbers)
        if not known.any():
            return None
        counts = np.bincount(places[known], minlength=self.count)
        sums = np.bincount(places[known], numbers[known], minlength=self.count)
        drawn = _draw_clips(self.count) @ np.stack([sums, counts], axis=1).astype(np.float32)
        mean = float(numbers[known].mean())
        totals, sizes = drawn.astype(float).T
        # Groups are averaged draw by draw, so a draw without a clip of this group keeps its place.
        means = np.where(sizes > 0, totals / np.maximum(sizes, 1), mean)
        return GroupMean(mean, means, int(known.sum()), counts > 0)

    def mean_over(self, axis: str, items: Sequence[Item], values: Values) -> Interval:
        """Return the mean over the groups of an axis, for example "task", with its interval."""
        known = list(values)
        return combine(
            [
                self.group([known[position] for position in positions], positions, seed)
                for seed, positions in enumerate(split_positions(items, axis).values())
            ]
        )

    def interval(self, values: Values, positions: Sequence[int] | None = None) -> Interval:
        """Return the mean of the known values with its interval."""
        if not self.clustered:
            return mean_interval(values)
        return combine([self.group(values, positions)])


def _known(values: Values) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], dtype=float)


@lru_cache(maxsize=2)
def _draw_clips(count: int) -> np.ndarray:
    """Return how often each clip is in each resample, shape (resamples, clips)."""
    random = np.random.default_rng(0)
    rows = max(200, min(RESAMPLES, _CELLS // count))
    return np.stack(
        [
            np.bincount(random.integers(count, size=count), minlength=count).astype(np.float32)
            for _ in range(rows)
        ]
    )
