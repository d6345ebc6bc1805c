"""How far people and judges agree on whether observations are sufficient.

Pure functions over answers True (sufficient), False (not) and None (unknown). Unknown answers are
counted and left out of every measure. The paper measures its judges so: 200 cases labelled by
people, accuracy of 82 to 95 % by judge (arXiv 2511.11113).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from p2r.cases.labels import Label, latest_labels

Answer = bool | None
Pair = tuple[Answer, Answer]
ANSWERS = ("yes", "no", "unknown")
_NAMES: dict[Answer, str] = {True: "yes", False: "no", None: "unknown"}
_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval over n cases; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Agreement:
    """Two raters on the same cases.

    `accuracy`: share of equal answers among the cases both know, with Wilson's interval; `kappa`:
    Cohen's, with a percentile bootstrap interval; `confusion`: counts by (first, second), each
    "yes", "no" or "unknown". `recall` and `specificity`: of the first rater's "yes" ("no"), the
    share that the second calls so.
    """

    accuracy: Interval
    kappa: Interval
    recall: Interval
    specificity: Interval
    confusion: dict[tuple[str, str], int]

    @property
    def n(self) -> int:
        """Cases that both know."""
        return self.accuracy.n

    @property
    def unknown_first(self) -> int:
        """Cases of which the first rater cannot say."""
        return sum(n for (first, _), n in self.confusion.items() if first == "unknown")

    @property
    def unknown_second(self) -> int:
        """Cases of which the second rater cannot say."""
        return sum(n for (_, second), n in self.confusion.items() if second == "unknown")


def measure(pairs: Iterable[Pair], seed: int = 0, samples: int = 2000) -> Agreement:
    """The agreement of two raters; `pairs` are their answers, case by case."""
    answers = Counter((_NAMES[first], _NAMES[second]) for first, second in pairs)
    table = {pair: answers[pair] for pair in itertools.product(ANSWERS, ANSWERS)}
    both_yes, only_first = table["yes", "yes"], table["yes", "no"]
    only_second, both_no = table["no", "yes"], table["no", "no"]
    return Agreement(
        accuracy=wilson(both_yes + both_no, both_yes + only_first + only_second + both_no),
        kappa=_kappa_interval((both_yes, only_first, only_second, both_no), seed, samples),
        recall=wilson(both_yes, both_yes + only_first),
        specificity=wilson(both_no, both_no + only_second),
        confusion=table,
    )


def wilson(successes: int, n: int) -> Interval:
    """A share with Wilson's score interval (95 %)."""
    if not n:
        return Interval(None, None, None, 0)
    share = successes / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    # At the ends the formula gives them exactly, rounding does not.
    return Interval(share, 0.0 if successes == 0 else low, 1.0 if successes == n else high, n)


def cohen_kappa(both_yes: int, only_first: int, only_second: int, both_no: int) -> float | None:
    """Cohen's kappa of a 2 x 2 table: (observed - expected) / (1 - expected agreement).

    None where it is not defined: without cases, and where both raters give the same one answer to
    all of them, so that chance explains everything.
    """
    value = _kappas(np.array([[both_yes, only_first, only_second, both_no]]))[0]
    return None if math.isnan(value) else float(value)


def agreement_with_judges(
    labels: Iterable[Label], verdicts: Mapping[str, tuple[str, Answer]]
) -> dict[str, dict[str, Agreement]]:
    """People against each judge: {judge: {annotator, or "majority": agreement}}.

    `verdicts`: case -> (judge, sufficient). Only the label that counts of each annotator and case
    is used. The majority of a case is the answer that most of its annotators who know give; a tie
    is unknown. It is listed where there are several annotators.
    """
    counted = latest_labels(labels)
    raters: dict[str, dict[str, Answer]] = defaultdict(dict)
    for (annotator, case), label in counted.items():
        raters[annotator][case] = label.sufficient
    rows = [*raters.items()]
    if len(raters) > 1:
        rows.append(("majority", majority(raters)))
    found: dict[str, dict[str, Agreement]] = defaultdict(dict)
    for name, answers in rows:
        pairs: dict[str, list[Pair]] = defaultdict(list)
        for case, answer in answers.items():
            if case in verdicts:
                judge, sufficient = verdicts[case]
                pairs[judge].append((answer, sufficient))
        for judge, judged in pairs.items():
            found[judge][name] = measure(judged)
    return dict(found)


def agreement_between_annotators(labels: Iterable[Label]) -> dict[tuple[str, str], Agreement]:
    """Each two annotators on the cases that both have labelled."""
    raters: dict[str, dict[str, Answer]] = defaultdict(dict)
    for (annotator, case), label in latest_labels(labels).items():
        raters[annotator][case] = label.sufficient
    found = {}
    for first, second in itertools.combinations(sorted(raters), 2):
        shared = [case for case in raters[first] if case in raters[second]]
        if shared:
            found[first, second] = measure(
                (raters[first][case], raters[second][case]) for case in shared
            )
    return found


def majority(raters: Mapping[str, Mapping[str, Answer]]) -> dict[str, Answer]:
    """Each case's answer by most of the annotators who know; None for a tie."""
    votes: dict[str, Counter[Answer]] = defaultdict(Counter)
    for answers in raters.values():
        for case, answer in answers.items():
            votes[case][answer] += 1
    return {
        case: None if counts[True] == counts[False] else counts[True] > counts[False]
        for case, counts in votes.items()
    }


def _kappa_interval(table: Sequence[int], seed: int, samples: int) -> Interval:
    n = sum(table)
    value = cohen_kappa(*table)
    if value is None:
        return Interval(None, None, None, n)
    drawn = np.random.default_rng(seed).multinomial(n, np.array(table) / n, size=samples)
    kappas = _kappas(drawn)
    low, high = np.nanquantile(kappas, [0.025, 0.975])
    return Interval(value, float(low), float(high), n)


def _kappas(tables: np.ndarray) -> np.ndarray:
    """Kappa of each row (both yes, only first, only second, both no); NaN: not defined."""
    both_yes, only_first, only_second, both_no = tables.T.astype(float)
    n = tables.sum(axis=1).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (both_yes + both_no) / n
        first, second = (both_yes + only_first) / n, (both_yes + only_second) / n
        expected = first * second + (1 - first) * (1 - second)
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
