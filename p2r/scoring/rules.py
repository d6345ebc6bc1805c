"""The accuracy of an answer: rules by problem type, and mean relative accuracy.

There are two kinds of failure. If the answer is missing or cannot be read, the model failed and the
score is 0. If the reference answer cannot be read as its type, there is nothing to compare with:
the score is None (unknown) and is left out of every mean. Every readable reference answer scores
exactly 1 against itself.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import jiwer
import numpy as np

from p2r.records import Case
from p2r.scoring.answers import Number, extract_choice, read_number, readings
from p2r.template import answer_of, read_final_text

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

Answer = str | float | None


def accuracy(
    problem_type: str, prediction: Answer, truth: Answer, options: Sequence[str] | None = None
) -> float | None:
    """Return the accuracy of an answer in [0, 1], or None if it cannot be scored.

    | problem type    | accuracy                                                           |
    |-----------------|--------------------------------------------------------------------|
    | multiple choice | 1 if the same option is named (see `extract_choice`)               |
    | numerical       | 1 if it is the same number (see `same_number`)                     |
    | OCR             | 1 - word error rate, without case and punctuation around words     |
    | free-form       | mean of the F-measures of ROUGE-1, ROUGE-2 and ROUGE-L             |
    | regression      | 1 - |prediction - truth| / |truth|, at least 0; truth 0: 1 or 0    |

    `prediction` and `truth` may have `<answer>` tags. The CoT filter (VideoP2R, stage 1 step 2) and
    the accuracy reward of reasoning (eq. 5) use this function. It returns None for an unknown
    problem type, and for a reference answer that does not fit its type (no number, no option).
    """
    metric = _METRICS.get(problem_type)
    if metric is None or truth is None:
        return None
    score = metric("" if prediction is None else str(prediction), str(truth), options)
    return 0.0 if score is not None and prediction is None else score


def score_answer(case: Case) -> float | None:
    """Return the accuracy of a case's answer, in [0, 1].

    A missing answer scores 0. A reference answer that cannot be read gives None.
    """
    question = case.question
    return accuracy(question.problem_type, case.trace.answer, question.answer, question.options)


# ---- choices and numbers


def _choice_accuracy(prediction: str, truth: str, options: Sequence[str] | None) -> float | None:
    right = extract_choice(truth, options)
    return None if right is None else float(extract_choice(prediction, options) == right)


def _number_accuracy(prediction: str, truth: str, _: Sequence[str] | None) -> float | None:
    given, right = read_number(prediction), read_number(truth)
    if right is None:
        return None
    return float(given is not None and same_number(given, right))


def same_number(a: Number, b: Number) -> bool:
    """Return whether two numbers are equal at the precision of the less precise one.

    "5.0" equals 5, and 50% equals 50 and 0.5. A number with at least two decimals and two
    significant digits also equals every number that rounds to it: 3.43 equals 3.429, because
    Video-R1 compares two decimals. 0.33 and 0.333 equal 1/3, and 0.34 does not. 0.00 does not
    equal 0.004, and 5 does not equal 5.004.
    """
    return any(_same_reading(x, y) for x, y in readings(a, b))


def _same_reading(a: Number, b: Number) -> bool:
    if math.isclose(a.value, b.value, rel_tol=1e-9, abs_tol=1e-12):
        return True
    written = [number.decimals for number in (a, b) if number.decimals is not None]
    if not written:
        return False
    decimals = min(written)
    unit = 10.0**-decimals
    precise = decimals >= 2 and max(abs(a.value), abs(b.value)) >= 10 * unit
    return precise and abs(a.value - b.value) <= unit / 2 * (1 + 1e-9)


def _regression_accuracy(prediction: str, truth: str, _: Sequence[str] | None) -> float | None:
    given, right = read_number(prediction), read_number(truth)
    if right is None:
        return None
    return 0.0 if given is None else max(0.0, 1.0 - _relative_error(given, right))


def _relative_error(given: Number, right: Number) -> float:
    """Return |given - right| / |right|. A percentage is read in the way that gives less error.

    If `right` is 0, the error is 0 if `given` is 0 too (within 1e-9), otherwise infinite.
    """
    errors = []
    for x, y in readings(given, right):
        difference = abs(x.value - y.value)
        if y.value == 0:
            errors.append(0.0 if difference <= 1e-9 else math.inf)
        else:
            errors.append(difference / abs(y.value))
    return min(errors)


MRA_THRESHOLDS = np.linspace(0.5, 0.95, 10)


def mra(prediction: Answer, truth: Answer) -> float | None:
    """Return the mean relative accuracy: the share of thresholds t with relative error <= 1 - t.

    The thresholds are 0.50, 0.55 … 0.95, like in the code of VSI-Bench (`p2r.evaluation.rules` has
    the conventions of other code). The comparison is in double precision, like the official code:
    4 against 5 just misses 0.80.

    A prediction without a number scores 0. A reference answer without a number gives None.
    """
    given, right = read_number(prediction), read_number(truth)
    if right is None:
        return None
    if given is None:
        return 0.0
    return float(np.mean(_relative_error(given, right) <= 1 - MRA_THRESHOLDS))


# ---- texts

# Scripts that have no spaces between words: each character counts as a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_OCR_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_ROUGE_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def _fold(text: str) -> str:
    """Return the answer in a text: without tags, normalised (NFKC) and in lower case."""
    return unicodedata.normalize("NFKC", answer_of(read_final_text(text)) or "").casefold()


def _ocr_accuracy(prediction: str, truth: str, _: Sequence[str] | None) -> float:
    read, written = _ocr_words(prediction), _ocr_words(truth)
    if not written:
        return float(not read)
    return max(0.0, 1.0 - jiwer.wer(" ".join(written), " ".join(read)))


def _ocr_words(text: str) -> list[str]:
    """Return the words without punctuation at their edges.

    Words that consist of punctuation are dropped, unless all words do.
    """
    words = _OCR_WORD.findall(_fold(text))
    return [bare for word in words if (bare := _strip_punctuation(word))] or words


def _strip_punctuation(word: str) -> str:
    """Return a word without punctuation at its edges. Symbols such as $ and + stay."""
    inner = [i for i, char in enumerate(word) if not unicodedata.category(char).startswith("P")]
    return word[inner[0] : inner[-1] + 1] if inner else ""


class _AnyScript:
    """ROUGE's tokens for Latin text. Letters of other scripts are kept.

    A text without letters and digits is compared character by character.
    """

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer  # imports SciPy: a second

        # Stemming takes most of ROUGE's time, and texts share many words: stems are cached.
        self._latin = lru_cache(maxsize=1 << 16)(DefaultTokenizer(use_stemmer=True).tokenize)

    def tokenize(self, text: str) -> list[str]:
        words = _ROUGE_WORD.findall(text)
        if not words:
            return list("".join(text.split()))
        latin = self._latin
        return [t for word in words for t in (latin(word) if word.isascii() else [word])]


@cache
def _rouge() -> tuple[RougeScorer, _AnyScript]:
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = _AnyScript()
    return RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=tokenizer), tokenizer


def _rouge_accuracy(prediction: str, truth: str, _: Sequence[str] | None) -> float | None:
    """Return the mean F-measure with stemming, like Video-R1.

    ROUGE-2 is left out if the reference answer is one word.
    """
    given, right = _fold(prediction), _fold(truth)
    if not right.strip():
        return None
    scorer, tokenizer = _rouge()
    scores = scorer.score(right, given)
    if len(tokenizer.tokenize(right)) < 2:
        del scores["rouge2"]
    return sum(score.fmeasure for score in scores.values()) / len(scores)


_METRICS: dict[str, Callable[[str, str, Sequence[str] | None], float | None]] = {
    "multiple choice": _choice_accuracy,
    "numerical": _number_accuracy,
    "OCR": _ocr_accuracy,
    "free-form": _rouge_accuracy,
    "regression": _regression_accuracy,
}
