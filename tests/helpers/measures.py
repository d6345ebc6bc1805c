"""Paths of the shared data, and a measure of how the time of an algorithm grows."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

# Real videos, traces and predictions live beside the checkout; tests that need them skip where they
# are absent.
SHARED = Path(__file__).resolve().parents[3] / "shared"


def shared_data(part: str) -> Path:
    """The path of a part of the shared data, or a skip that says it is absent."""
    path = SHARED / "data" / part
    if not path.exists():
        pytest.skip(f"shared data absent: {part}")
    return path


def growth(work: Callable, small, large, repeats: int = 3) -> float:
    """How many times longer `work(large)` takes than `work(small)`: the best of some runs each, in
    time of this process, so that the answer depends on the algorithm and not on the machine.
    """

    def best(given, times: int) -> float:
        spans = []
        for _ in range(times):
            start = time.process_time()
            work(given)
            spans.append(time.process_time() - start)
        return max(min(spans), 1e-6)

    return best(large, repeats) / best(small, 3 * repeats)
