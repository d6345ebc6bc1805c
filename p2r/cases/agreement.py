"""Measures how far people and judges agree on whether observations are sufficient.

Pure functions over answers: True (sufficient), False (not sufficient) and None (unknown). Unknown
answers are counted and left out of every measure. The paper measures its judges in this way: people
labelled 200 cases, and the judges reached an accuracy of 82 to 95 % (arXiv 2511.11113).
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from p2r.cases.labels import CaseLabel, latest_labels

Rating = bool | None
RatingPair = tuple[Rating, Rating]
ANSWERS = ("yes", "no", "unknown")
_NAMES: dict[Rating, str] = {True: "yes", False: "no", None: "unknown"}


@dataclass(frozen=True)
class Measured:
    """A value with its 95 % interval over n cases; None where it is not defined."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Agreement:
    """Two raters on the same cases.

    `accuracy`: share of equal answers among the cases that both know, with Wilson's interval.
    `kappa`: Cohen's kappa, with a percentile bootstrap interval. `confusion`: counts by (first,
    second), each "yes", "no" or "unknown". `recall` and `specificity`: of the cases that the first
    rater calls "yes" ("no"), the share that the second calls the same.
    """

    accuracy: Measured
    kappa: Measured
    recall: Measured
    specificity: Measured
    confusion: dict[tuple[str, str], int]

    @property
    def n(self) -> int:
        """The number of cases that both raters know."""
        return self.accuracy.n

    @property
    def unknown_first(self) -> int:
        """The number of cases that the first rater calls unknown."""
        return sum(n for (first, _), n in self.confusion.items() if first == "unknown")


def measure(pairs: Iterable[RatingPair], seed: int = 0, samples: int = 2000) -> Agreement:
    """Return the agreement of two raters. `pairs` are their answers, case by case."""
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


def wilson(successes: int, n: int) -> Measured:
    """Return a share with Wilson's score interval (95 %)."""
    if not n:
        return Measured(None, None, None, 0)
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return Measured(successes / n, float(interval.low), float(interval.high), n)


def cohen_kappa(both_yes: int, only_first: int, only_second: int, both_no: int) -> float | None:
    """Return Cohen's kappa of a 2 x 2 table: (observed - expected) / (1 - expected agreement).

    None where it is not defined: without cases, and where both raters give the same single answer
    to every case, so that the expected agreement is 1.
    """
    value = float(_kappas(np.array([[both_yes, only_first, only_second, both_no]]))[0])
    return None if np.isnan(value) else value


def agreement_with_judges(
    labels: Iterable[CaseLabel], verdicts: Mapping[str, tuple[str, Rating]]
) -> dict[str, dict[str, Agreement]]:
    """Compare people with each judge. Return {judge: {annotator or "majority": agreement}}.

    `verdicts`: case -> (judge, sufficient). The last label of each annotator for a case is used.
    With several annotators, their majority is listed too.
    """
    counted = latest_labels(labels)
    raters: dict[str, dict[str, Rating]] = defaultdict(dict)
    for (annotator, case), label in counted.items():
        raters[annotator][case] = label.sufficient
    rows = [*raters.items()]
    if len(raters) > 1:
        rows.append(("majority", majority(raters)))
    found: dict[str, dict[str, Agreement]] = defaultdict(dict)
    for name, answers in rows:
        pairs: dict[str, list[RatingPair]] = defaultdict(list)
        for case, answer in answers.items():
            if case in verdicts:
                judge, sufficient = verdicts[case]
                pairs[judge].append((answer, sufficient))
        for judge, judged in pairs.items():
            found[judge][name] = measure(judged)
    return dict(found)


def agreement_between_annotators(labels: Iterable[CaseLabel]) -> dict[tuple[str, str], Agreement]:
    """Compare every two annotators on the cases that both labelled."""
    raters: dict[str, dict[str, Rating]] = defaultdict(dict)
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


def krippendorff_alpha(labels: Iterable[CaseLabel], seed: int = 0, samples: int = 1000) -> Measured:
    """Return Krippendorff's alpha of all annotators (nominal), with a bootstrap over cases.

    alpha = 1 - observed / expected disagreement, over the cases that at least two annotators know.
    1 is full agreement, 0 is chance. Source: Krippendorff, Content Analysis (2004), chapter 11.
    """
    votes: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (_, case), label in latest_labels(labels).items():
        if label.sufficient is not None:
            votes[case][int(label.sufficient)] += 1
    table = np.array([pair for pair in votes.values() if sum(pair) > 1], dtype=float).reshape(-1, 2)
    n = len(table)
    value = _alphas(table[None])[0] if n else np.nan
    if np.isnan(value):
        return Measured(None, None, None, n)
    drawn = np.random.default_rng(seed).integers(0, n, size=(samples, n))
    alphas = _alphas(table[drawn])
    if np.isnan(alphas).all():
        return Measured(float(value), None, None, n)
    low, high = np.nanquantile(alphas, [0.025, 0.975])
    return Measured(float(value), float(low), float(high), n)


def _alphas(tables: np.ndarray) -> np.ndarray:
    """Return alpha for each table (…, cases, 2) of votes; NaN where all votes are equal."""
    raters = tables.sum(axis=-1)
    # Pairs of one case that disagree, each case weighted by its number of votes.
    observed = (2 * tables[..., 0] * tables[..., 1] / (raters - 1)).sum(axis=-1)
    no, yes = np.moveaxis(tables.sum(axis=-2), -1, 0)
    total = no + yes
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(no * yes > 0, 1 - (total - 1) * observed / (2 * no * yes), np.nan)


def majority(raters: Mapping[str, Mapping[str, Rating]]) -> dict[str, Rating]:
    """Return the answer of most annotators for each case, unknowns left out; None for a tie."""
    votes: dict[str, Counter[Rating]] = defaultdict(Counter)
    for answers in raters.values():
        for case, answer in answers.items():
            votes[case][answer] += 1
    return {
        case: None if counts[True] == counts[False] else counts[True] > counts[False]
        for case, counts in votes.items()
    }


def _kappa_interval(table: Sequence[int], seed: int, samples: int) -> Measured:
    n = sum(table)
    value = cohen_kappa(*table)
    if value is None:
        return Measured(None, None, None, n)
    drawn = np.random.default_rng(seed).multinomial(n, np.array(table) / n, size=samples)
    kappas = _kappas(drawn)
    low, high = np.nanquantile(kappas, [0.025, 0.975])
    return Measured(value, float(low), float(high), n)


def _kappas(tables: np.ndarray) -> np.ndarray:
    """Return kappa of each row (both yes, only first, only second, both no); NaN: undefined."""
    both_yes, only_first, only_second, both_no = tables.T.astype(float)
    n = tables.sum(axis=1).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = (both_yes + both_no) / n
        first, second = (both_yes + only_first) / n, (both_yes + only_second) / n
        expected = first * second + (1 - first) * (1 - second)
        return np.where(expected < 1, (observed - expected) / (1 - expected), np.nan)
