"""Drop traces with a segment far longer or shorter than is usual for its problem type."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict

from p2r.pipeline.quality import Kept

ORDER = 3


def find_drops(kept: Kept, furthest: float) -> set[str]:
    """Return the keys of outliers: |log length - median| / (1.4826 MAD) > `furthest`.

    Lengths are compared within the same problem type and segment.
    """
    found: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for key, case in kept:
        for name in ("observation", "think"):
            length = len(getattr(case.trace, name) or "")
            found[case.question.problem_type, name].append((key, math.log1p(length)))
    outliers: set[str] = set()
    for lengths in found.values():
        middle = statistics.median(length for _, length in lengths)
        spread = 1.4826 * statistics.median(abs(length - middle) for _, length in lengths)
        if spread > 0:  # if most lengths are equal, there is no scale
            outliers |= {key for key, value in lengths if abs(value - middle) > furthest * spread}
    return outliers
