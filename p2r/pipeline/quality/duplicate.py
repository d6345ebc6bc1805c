"""Drop traces that nearly repeat a kept trace, word for word."""

from __future__ import annotations

import zlib
from collections import deque

import numpy as np

from p2r.pipeline.quality import Kept

NAME = "near duplicate"
ORDER = 5
SHINGLE = 5  # words
PERMUTATIONS, ROWS = 128, 4  # hashes of MinHash; hashes of a band
CANDIDATES = 16  # kept traces that one band remembers: limits the work if all texts are similar


class NearDuplicates:
    """Finds near duplicates by MinHash over the word 5-grams of texts.

    Two texts are compared if a band of four hashes is equal. 128 hashes estimate the Jaccard index
    (standard error 0.035 at 0.8).
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        random = np.random.default_rng(0)
        self._factors = random.integers(0, 2**63, (PERMUTATIONS, 1), dtype=np.uint64) * 2 + 1
        self._signatures: list[np.ndarray] = []
        self._bands: dict[bytes, deque[int]] = {}

    def add(self, text: str) -> bool:
        """Return whether a text nearly repeats an earlier one; remember it if not."""
        signature = self._sign(text)
        bands = [
            row.tobytes() + bytes([place]) for place, row in enumerate(signature.reshape(-1, ROWS))
        ]
        near = {index for band in bands for index in self._bands.get(band, ())}
        if any(np.mean(self._signatures[i] == signature) >= self._threshold for i in near):
            return True
        self._signatures.append(signature)
        for band in bands:
            places = self._bands.setdefault(band, deque(maxlen=CANDIDATES))
            places.append(len(self._signatures) - 1)
        return False

    def _sign(self, text: str) -> np.ndarray:
        words = text.casefold().split() or [""]
        words += [""] * (SHINGLE - len(words))
        hashes = np.array(
            [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words], np.uint64
        )
        count = len(words) - SHINGLE + 1
        shingles = np.zeros(count, np.uint64)
        for place in range(SHINGLE):
            shingles = shingles * np.uint64(0x9E3779B97F4A7C15) + hashes[place : place + count]
        shingles ^= shingles >> np.uint64(29)
        mixed = (self._factors * shingles) >> np.uint64(32)
        return mixed.min(axis=1).astype(np.uint32)


def find_drops(kept: Kept, threshold: float) -> list[str]:
    """Return the keys of traces whose Jaccard index with a kept one reaches `threshold`."""
    seen = NearDuplicates(threshold)
    return [key for key, case in kept if seen.add(case.trace.text)]
