"""Quality controls beyond the paper: named filters of kept traces, each off by default.

| filter         | drops                                                                         |
|----------------|-------------------------------------------------------------------------------|
| leak           | an observation that states the answer, or holds most of the think text        |
| language       | too many letters of scripts that neither the question nor the template has    |
| length         | a segment far longer or shorter than is usual for its problem type            |
| best of n      | all traces of a question but the best: most accurate, then first sampled      |
| near duplicate | a trace nearly the same, word for word, as one that is kept                   |
| source balance | what a source has beyond its cap, chosen by hash and not by order             |

Each looks at what the filters before it left, and takes time linear in the text. Settings:
`filter.quality` of the recipe.
"""

from __future__ import annotations

import heapq
import math
import re
import statistics
import unicodedata
import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from p2r.records import Case, Question
from p2r.runs.recipe import QualitySettings
from p2r.scoring.answers import extract_choice

Kept = Iterator[tuple[str, Case]]
QUOTED = 8  # words in a row that count as quoted
SHINGLE = 5  # words
PERMUTATIONS, ROWS = 128, 4  # of MinHash; rows of a band
CANDIDATES = 16  # kept traces that one band remembers: bounds the work where all texts are alike


def find_drops(settings: QualitySettings, kept: Callable[[], Kept]) -> dict[str, str]:
    """Which traces the filters that are on drop: key to the filter's name.

    `kept()` goes once more through the cases that passed the paper's filter, with their keys.
    """
    drops: dict[str, str] = {}
    for name in active(settings):
        alive = ((key, case) for key, case in kept() if key not in drops)
        drops |= dict.fromkeys(_FILTERS[name][1](alive, _value(settings, name)), name)
    return drops


def active(settings: QualitySettings) -> tuple[str, ...]:
    """The names of the filters that are on, in their order."""
    return tuple(name for name in _FILTERS if _value(settings, name))


def thresholds(settings: QualitySettings) -> dict[str, bool | float | int]:
    """The filters that are on, with their settings."""
    return {name: _value(settings, name) for name in active(settings)}


def _value(settings: QualitySettings, name: str) -> bool | float | int | None:
    return getattr(settings, _FILTERS[name][0])


# ---- leak

_FILLER = (
    r"(?:\s+(?:is|are|was|would|should|must|be|the|of|to|letter|number|option|choice|clearly))"
)
_NAMED = re.compile(
    rf"\b(?i:answers?|options?|choices?)\b(?i:{_FILLER}){{0,5}}\s*[:=]?\s*[(\[\"'*]{{0,3}}"
    r"([A-Z])(?![\w'’])"
)
_CALLED_RIGHT = re.compile(
    r"(?<![\w'’])\(?([A-Z])[).]?\s+(?i:is|would be|must be|seems)\s+(?i:the\s+)?"
    r"(?i:correct|right|best|answer)\b"
)
_STATED = re.compile(
    r"\bthe\s+(?:(?:correct|right|final|best)\s+)?answer\s+(?:is|was|would be|must be|should be)\b"
    r"|<answer>|\\boxed\b",
    re.IGNORECASE,
)


def find_leak(case: Case) -> str | None:
    """How an observation gives the answer away, or None.

    Text on the screen ("a sign that says B") is no leak: the letter must be called the answer.
    """
    observation = case.trace.observation or ""
    if _STATED.search(observation):
        return "it states an answer"
    letter = _letter(case.question)
    if letter and letter in _NAMED.findall(observation) + _CALLED_RIGHT.findall(observation):
        return f"it names option {letter}"
    thought = _runs(case.trace.think or "")
    if thought and 2 * len(thought & _runs(observation)) > len(thought):
        return "it holds most of the think text"
    return None


def _letter(question: Question) -> str | None:
    if question.problem_type != "multiple choice":
        return None
    return extract_choice(question.answer, question.options or None)


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + QUOTED]) for i in range(len(words) - QUOTED + 1)}


def _leaks(kept: Kept, _: bool) -> list[str]:
    return [key for key, case in kept if find_leak(case)]


# ---- language

# Of scripts used together.
_SAME_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "FULLWIDTH": "LATIN"}
# Greek and such stand in formulas of any language.
_NEUTRAL = {"GREEK", "MICRO", "MODIFIER", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "SUPERSCRIPT"}


def foreign_share(case: Case) -> float:
    """The share of a trace's letters that are of scripts foreign to its question, in [0, 1].

    Latin letters are never foreign: the template is written in them.
    """
    question = case.question
    own = {"LATIN", *map(_script, "".join((question.problem, *question.options, question.answer)))}
    letters = [char for char in case.trace.text if char.isalpha()]
    foreign = sum(not char.isascii() and _script(char) not in own for char in letters)
    return foreign / len(letters) if letters else 0.0


@cache
def _script(char: str) -> str:
    if not char.isalpha():
        return "LATIN"
    script = unicodedata.name(char, "UNKNOWN").split()[0]
    script = _SAME_SCRIPT.get(script, script)
    return "LATIN" if script in _NEUTRAL else script


def _languages(kept: Kept, highest: float) -> list[str]:
    return [key for key, case in kept if foreign_share(case) > highest]


# ---- length


def _lengths(kept: Kept, furthest: float) -> set[str]:
    """Robust outliers: |log length - median| / (1.4826 MAD) of the same type and segment."""
    found: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for key, case in kept:
        for name in ("observation", "think"):
            length = len(getattr(case.trace, name) or "")
            found[case.question.problem_type, name].append((key, math.log1p(length)))
    outliers: set[str] = set()
    for lengths in found.values():
        middle = statistics.median(length for _, length in lengths)
        spread = 1.4826 * statistics.median(abs(length - middle) for _, length in lengths)
        if spread > 0:  # where most are equally long, nothing can be said
            outliers |= {key for key, value in lengths if abs(value - middle) > furthest * spread}
    return outliers


# ---- best of n


def _all_but_best(kept: Kept, _: bool) -> list[str]:
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


# ---- near duplicates


class NearDuplicates:
    """MinHash over the word 5-grams of texts, compared where a band of four hashes is equal.

    The Jaccard index is estimated from 128 hashes (standard error 0.035 at 0.8).
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        random = np.random.default_rng(0)
        self._factors = random.integers(0, 2**63, (PERMUTATIONS, 1), dtype=np.uint64) * 2 + 1
        self._signatures: list[np.ndarray] = []
        self._bands: dict[bytes, deque[int]] = {}

    def add(self, text: str) -> bool:
        """Whether a text nearly repeats an earlier one; it is remembered if it does not."""
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


def _duplicates(kept: Kept, threshold: float) -> list[str]:
    seen = NearDuplicates(threshold)
    return [key for key, case in kept if seen.add(case.trace.text)]


# ---- source balance


def _beyond_cap(kept: Kept, cap: int) -> list[str]:
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


# Name in the funnel -> its setting, and what finds the keys that it drops. In this order.
_FILTERS: dict[str, tuple[str, Callable[[Kept, float], object]]] = {
    "leak": ("leak", _leaks),
    "language": ("language", _languages),
    "length": ("length", _lengths),
    "best of n": ("best_of", _all_but_best),
    "near duplicate": ("duplicate", _duplicates),
    "source balance": ("per_source", _beyond_cap),
}
