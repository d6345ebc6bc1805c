"""How right an answer is: accuracy by problem type, mean relative accuracy, means with intervals.

Two sorts of failure are kept apart. An answer that is missing or cannot be read is the model's own
failure and scores 0. A reference answer that cannot be read as its type leaves nothing to compare
with: the score is None, unknown, and is left out of every mean. Every readable reference answer
scores exactly 1 against itself.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

import jiwer
import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from p2r.records import Case
from p2r.scoring.answers import Number, extract_choice, read_number, readings
from p2r.template import answer_of

Answer = str | float | None


def accuracy(
    problem_type: str, prediction: Answer, truth: Answer, options: Sequence[str] | None = None
) -> float | None:
    """The accuracy of an answer in [0, 1], or None where it cannot be scored.

    | problem type    | accuracy                                                           |
    |-----------------|--------------------------------------------------------------------|
    | multiple choice | 1 if the same option is named (see `extract_choice`)               |
    | numerical       | 1 if it is the same number (see `same_number`)                     |
    | OCR             | 1 - word error rate, without case and punctuation around words     |
    | free-form       | mean of the F-measures of ROUGE-1, ROUGE-2 and ROUGE-L             |
    | regression      | 1 - |prediction - truth| / |truth|, at least 0; truth 0: 1 or 0    |

    `prediction` and `truth` are answers, with or without `<answer>` tags. This is both the filter
    of the CoT data and the accuracy reward of reasoning (VideoP2R, stage 1 step 2 and eq. 5). None
    for an unknown problem type and for a truth that is none of its type: no number, no option.
    """
    metric = _METRICS.get(problem_type)
    if metric is None or truth is None:
        return None
    score = metric("" if prediction is None else str(prediction), str(truth), options)
    return 0.0 if score is not None and prediction is None else score


# ---- choices and numbers


def score_answer(case: Case) -> float | None:
    """Return the accuracy of a case's answer, in [0, 1].

    A missing answer scores 0. A reference answer that cannot be read gives None.
    """
    question = case.question
    return accuracy(question.problem_type, case.trace.answer, question.answer, question.options)


def _choice_accuracy(prediction: str, truth: str, options: Sequence[str] | None) -> float | None:
    right = extract_choice(truth, options)
    return None if right is None else float(extract_choice(prediction, options) == right)


def _number_accuracy(prediction: str, truth: str, _: Sequence[str] | None) -> float | None:
    given, right = read_number(prediction), read_number(truth)
    if right is None:
        return None
    return float(given is not None and same_number(given, right))


def same_number(a: Number, b: Number) -> bool:
    """Whether two numbers are the same, as far as the coarser one is written.

    "5.0" is 5, and 50% is 50 or 0.5. A number with at least two decimals and two significant digits
    also equals what rounds to it: 3.43 is 3.429, as Video-R1 (which compares two decimals) has it;
    0.00 is not 0.004, and 5 is not 5.004.
    """
    return any(_same_reading(x, y) for x, y in readings(a, b))


def _same_reading(a: Number, b: Number) -> bool:
    if math.isclose(a.value, b.value, rel_tol=1e-9, abs_tol=1e-12):
        return True
    if a.decimals is None or b.decimals is None:
        return False
    decimals = min(a.decimals, b.decimals)
    unit = 10.0**-decimals
    precise = decimals >= 2 and max(abs(a.value), abs(b.value)) >= 10 * unit
    return precise and abs(a.value - b.value) <= unit / 2 * (1 + 1e-9)


def _regression_accuracy(prediction: str, truth: str, _: Sequence[str] | None) -> float | None:
    given, right = read_number(prediction), read_number(truth)
    if right is None:
        return None
    return 0.0 if given is None else max(0.0, 1.0 - _relative_error(given, right))


def _relative_error(given: Number, right: Number) -> float:
    """|given - right| / |right|, of the more favourable reading of a percentage.

    Where `right` is 0 the error is 0 if `given` is 0 too (within 1e-9), else infinite.
    """
    errors = []
    for x, y in readings(given, right):
        difference = abs(x.value - y.value)
        if y.value == 0:
            errors.append(0.0 if difference <= 1e-9 else math.inf)
        else:
            errors.append(difference / abs(y.value))
    return min(errors)


# Thresholds of mean relative accuracy, and whether an error on the border counts.
_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MRA_CONVENTIONS: dict[str, tuple[np.ndarray, bool]] = {
    "official": (_THRESHOLDS, True),
    "strict": (_THRESHOLDS, False),
    "eleven": (np.linspace(0.5, 0.95, 11), True),
}


def mra(prediction: Answer, truth: Answer, convention: str = "official") -> float | None:
    """Mean relative accuracy (VSI-Bench): the share of thresholds t with relative error <= 1 - t.

    Conventions, all over t from 0.50 to 0.95: "official" has ten thresholds and counts the border
    (`<=`), as in the code of VSI-Bench; "strict" has the same ten without the border (`<`), as in
    the code of Video-R1; "eleven" has eleven, evenly spaced, with the border. Compared in double
    precision as the official code does, where 4 against 5 falls just short of threshold 0.80.

    0 for a prediction without a number, None for a truth without one. Raises ValueError for an
    unknown convention.
    """
    if convention not in MRA_CONVENTIONS:
        known = ", ".join(MRA_CONVENTIONS)
        raise ValueError(f"unknown MRA convention {convention!r}: use one of {known}")
    given, right = read_number(prediction), read_number(truth)
    if right is None:
        return None
    if given is None:
        return 0.0
    thresholds, border = MRA_CONVENTIONS[convention]
    error = _relative_error(given, right)
    return float(np.mean(error <= 1 - thresholds if border else error < 1 - thresholds))


# ---- texts

# Scripts written without spaces: each character is a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_OCR_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_ROUGE_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def _fold(text: str) -> str:
    """The answer in a text, without tags, in compatible characters, without case."""
    return unicodedata.normalize("NFKC", answer_of(text) or "").casefold()


def _ocr_accuracy(prediction: str, truth: str, _: Sequence[str] | None) -> float:
    read, written = _ocr_words(prediction), _ocr_words(truth)
    if not written:
        return float(not read)
    return max(0.0, 1.0 - jiwer.wer(" ".join(written), " ".join(read)))


def _ocr_words(text: str) -> list[str]:
    """Words without punctuation at their edges; words of punctuation alone only if all are."""
    words = _OCR_WORD.findall(_fold(text))
    return [bare for word in words if (bare := _strip_punctuation(word))] or words


def _strip_punctuation(word: str) -> str:
    """A word without punctuation at its edges; symbols such as $ and + stay."""
    inner = [i for i, char in enumerate(word) if not unicodedata.category(char).startswith("P")]
    return word[inner[0] : inner[-1] + 1] if inner else ""


class _AnyScript(Tokenizer):
    """ROUGE's own tokens for Latin text; letters of other scripts are not dropped.

    A text without letters and digits is compared by its signs.
    """

    def __init__(self) -> None:
        # Stemming is most of ROUGE's time, and texts share their words.
        self._latin = lru_cache(maxsize=1 << 16)(DefaultTokenizer(use_stemmer=True).tokenize)

    def tokenize(self, text: str) -> list[str]:
        words = _ROUGE_WORD.findall(text)
        if not words:
            return list("".join(text.split()))
        latin = self._latin
        return [t for word in words for t in (latin(word) if word.isascii() else [word])]


_TOKENIZER = _AnyScript()


@cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=_TOKENIZER)


def _rouge_accuracy(prediction: str, truth: str, _: Sequence[str] | None) -> float | None:
    """Mean F-measure, stemmed as in Video-R1; ROUGE-2 is left out where the truth is one word."""
    given, right = _fold(prediction), _fold(truth)
    if not right.strip():
        return None
    scores = _rouge().score(right, given)
    if len(_TOKENIZER.tokenize(right)) < 2:
        del scores["rouge2"]
    return sum(score.fmeasure for score in scores.values()) / len(scores)


_METRICS: dict[str, Callable[[str, str, Sequence[str] | None], float | None]] = {
    "multiple choice": _choice_accuracy,
    "numerical": _number_accuracy,
    "OCR": _ocr_accuracy,
    "free-form": _rouge_accuracy,
    "regression": _regression_accuracy,
}


# ---- means


def mean_interval(
    values: Iterable[float | None], seed: int = 0, n_boot: int = 2000, level: float = 0.95
) -> dict[str, float | int | None]:
    """The mean of the known values with a percentile bootstrap interval.

    None and NaN are unknown and left out. Returns {"mean", "low", "high", "n"}; without any known
    value n is 0 and the others are None.
    """
    known = np.array([math.nan if value is None else value for value in values], dtype=float)
    known = known[~np.isnan(known)]
    if not known.size:
        return {"mean": None, "low": None, "high": None, "n": 0}
    return to_interval(known.mean(), resample_means(known, seed, n_boot), known.size, level)


_FEW = 64  # distinct values


def resample_means(known: np.ndarray, seed: int = 0, n_boot: int = 2000) -> np.ndarray:
    """The means of `n_boot` resamples of values, with replacement.

    Of many values with few distinct ones it is drawn how often each is in a resample: the same
    distribution, in no time.
    """
    random = np.random.default_rng(seed)
    if known.size > 1000:
        values, counts = np.unique(known, return_counts=True)
        if values.size <= _FEW:
            shares = counts / known.size
            return random.multinomial(known.size, shares, size=n_boot) @ values / known.size
    rows = max(1, 2_000_000 // known.size)  # resamples drawn at a time, to bound memory
    return np.concatenate(
        [
            known[random.integers(known.size, size=(min(rows, n_boot - done), known.size))].mean(
                axis=1
            )
            for done in range(0, n_boot, rows)
        ]
    )


def to_interval(
    mean: float, drawn: np.ndarray, n: int, level: float = 0.95
) -> dict[str, float | int | None]:
    """A mean with the percentile interval of its resampled values."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return {"mean": float(mean), "low": float(low), "high": float(high), "n": int(n)}


def format_interval(interval: dict[str, Any] | None) -> str:
    """Format a mean and its interval in percent, as `63.0 [57–68]`; a dash if there is none."""
    if not interval or interval["mean"] is None:
        return "–"
    if interval["low"] is None:
        return f"{100 * interval['mean']:.1f}"
    mean, low, high = (100 * interval[key] for key in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.0f}–{high:.0f}]"
