"""Keep the best trace of each question: the most accurate, then the first sampled."""

from __future__ import annotations

from p2r.pipeline.quality import Kept

NAME = "best of n"
ORDER = 4


def find_drops(kept: Kept, _: bool) -> list[str]:
    """Return the keys of all traces but the best of each question."""
    best: dict[str, tuple[float, int, str]] = {}
    losers = []
    for key, case in kept:
        this = (case.accuracy or 0.0, -case.trace.rollout, key)
        other = best.get(case.question.id)
        if other is None or this > other:
            best[case.question.id] = this
        if other is not None:
            losers.append(min(this, other)[2])
    return losers
