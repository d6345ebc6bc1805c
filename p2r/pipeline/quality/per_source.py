"""Limit the traces of each source; a hash chooses them, so their order has no influence."""

from __future__ import annotations

import heapq
import zlib
from collections import defaultdict

from p2r.pipeline.quality import Kept

NAME = "source balance"
ORDER = 6


def find_drops(kept: Kept, cap: int) -> list[str]:
    """Return the keys beyond the first `cap` of each source, ordered by a hash of the key."""
    chosen: dict[str, list[tuple[int, str]]] = defaultdict(list)
    losers = []
    for key, case in kept:
        heap = chosen[case.question.source]
        item = (-zlib.crc32(key.encode("utf-8", "surrogatepass")), key)
        if len(heap) < cap:
            heapq.heappush(heap, item)
        else:
            losers.append(heapq.heappushpop(heap, item)[1])
    return losers
