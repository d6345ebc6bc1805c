"""Scoring of one item: the official rule of its benchmark, and a tolerant rule for all of them.

An official rule reads a direct answer like the benchmark's own script. If a response reasons, the
rule reads the text inside `<answer>`. Without this tag, the rule reads the text after the thinking.
The scripts do not know the tags: they would take the first letter of the reasoning. A response that
reasons and gives no answer is wrong. If a source stored the answer that it extracted, Video-R1's
exact match scores that answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from p2r.evaluation.benchmark import EXTRACTORS, Asked, Benchmark, Item, Reading
from p2r.scoring import MRA_THRESHOLDS, accuracy
from p2r.scoring.answers import LONGEST_REMARK, extract_choice, mentions, option_texts, parse_number
from p2r.scoring.thoughts import think_choice
from p2r.template import answer_of

Rule = Callable[[str, Asked], Reading]
_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_THRESHOLDS = {"official": MRA_THRESHOLDS, "eleven": np.linspace(0.5, 0.95, 11)}
_VIDEO_R1_THRESHOLDS = (0.5 + 0.05 * np.arange(10)).astype(np.float32)
# Some chat templates put the opening tag into the prompt: a response has only the closing tag.
_REASONING_TAGS = ("<think>", "</think>", "<observation>")


def score_with(entry: Benchmark, item: Item) -> None:
    """Set the extraction and the score of an item by the rules of a benchmark, by both extractors.

    Both scores are None if the reference answer cannot be read.
    """
    options = tuple(item.options)
    choice = item.problem_type == "multiple choice"
    letter = letter_of(item.truth, options) if choice else None
    asked = Asked(item.truth, item.problem_type, options, item.parts.get("task", ""), letter)
    robust = entry.robust or read_robustly
    if len(item.output) < 40:
        robust = partial(_read_short, robust)
    if unreadable_reference(asked) and not {"rating", "verdict"} & item.stored.keys():
        readings = dict.fromkeys(EXTRACTORS, Reading(None, None))
    else:
        readings = {
            "official": entry.score(item.output, asked, item.stored),
            "robust": robust(item.output, asked, item.stored.get("rating")),
        }
    item.extraction = {name: reading.extraction for name, reading in readings.items()}
    item.score = {name: reading.score for name, reading in readings.items()}


def odd_reference(item: Item) -> bool:
    """Return whether an item has a reference answer that cannot be read."""
    choice = item.problem_type == "multiple choice"
    letter = letter_of(item.truth, tuple(item.options)) if choice else None
    known = Asked(item.truth, item.problem_type, item.options, "", letter)
    return bool(item.truth) and unreadable_reference(known)


def unreadable_reference(asked: Asked) -> bool:
    """Return whether the reference is no option of a choice, or no number where one belongs."""
    if asked.problem_type == "multiple choice":
        return asked.letter is None and asked.truth not in asked.options
    number = asked.problem_type in ("numerical", "regression")
    return number and parse_number(asked.truth) is None


@lru_cache(maxsize=1 << 16)
def letter_of(truth: str, options: tuple[str, ...]) -> str | None:
    """Return the letter of the right option, or None if the reference answer names no option."""
    return extract_choice(truth, options or None)


# ---- official rules: what benchmarks share


def apply_rule(
    rule: Rule,
    output: str,
    asked: Asked,
    stored: Mapping[str, Any],
    *,
    extracted: Rule | None = None,
    whole_output: bool = False,
) -> Reading:
    """Score an output by a benchmark's official rule.

    1. Without a reference answer the score is None, unless a rating or a verdict was stored.
    2. A stored verdict is the score.
    3. A stored extraction is scored by `extracted` (default: `match_extraction`).
    4. Otherwise `rule` reads the final answer of the output, or with `whole_output` all of it.
    5. If the rule can read nothing, a stored rating is the score.
    """
    if not asked.truth and not {"rating", "verdict"} & stored.keys():
        return Reading(None, None)
    if "verdict" in stored:
        return Reading(stored.get("extraction"), stored["verdict"])
    if (said := stored.get("extraction")) is not None:
        reading = (extracted or match_extraction)(said, asked)
        # If the source stored the whole response, it extracted nothing.
        return reading._replace(extraction=None) if said == output and reasons(output) else reading
    answer = output if whole_output else final_answer(output)
    if answer is None:
        return Reading(None, 0.0)
    reading = rule(answer, asked)
    if "rating" in stored and reading.extraction is None:
        return Reading(None, stored["rating"])
    return reading


def score_by_type(rule: Rule, extracted: Rule) -> Callable[..., Reading]:
    """Return a `Benchmark.score`: `apply_rule` with `rule`.

    Extractions that a source stored are scored by `match_extraction` if they are choices, and by
    `extracted` otherwise.
    """

    def score(output: str, asked: Asked, stored: Mapping[str, Any]) -> Reading:
        choice = asked.problem_type == "multiple choice"
        return apply_rule(rule, output, asked, stored, extracted=None if choice else extracted)

    return score


def robust_by_type(others: Rule) -> Callable[..., Reading]:
    """Return a `Benchmark.robust`: `read_robustly` for choices, `others` for other answers."""

    def robust(output: str, asked: Asked, rating: float | None = None) -> Reading:
        if asked.problem_type == "multiple choice" or not asked.truth:
            return read_robustly(output, asked, rating)
        return others(output, asked)

    return robust


def reasons(output: str) -> bool:
    """Return whether a response has a reasoning segment."""
    return any(tag in output for tag in _REASONING_TAGS)


def tagged_answer(output: str) -> str:
    """Return the text inside `<answer>`, or ""."""
    answer = _ANSWER.search(output)
    return answer[1].strip() if answer else ""


def final_answer(output: str) -> str | None:
    """Return the text that a rule reads: a direct answer, or the answer after the reasoning.

    This is the text inside `<answer>`, else the text after the last `</think>`. None if the
    response reasons and gives no answer.
    """
    if not reasons(output):
        return output
    after = _outside_thinking(output) if "</think>" in output else None
    return tagged_answer(output) or after


def match_extraction(answer: str, asked: Asked) -> Reading:
    """Score an answer that its source extracted, by Video-R1's exact match."""
    return Reading(answer.strip() or None, match_like_video_r1(answer, asked))


def match_like_video_r1(answer: str, asked: Asked) -> float:
    """Return Video-R1's reward of an extracted answer (`reward_fn` of eval_bench.py).

    Letters must be equal. Two numbers must both have a point or a comma, or neither of them, and
    must be equal to two decimals: "5.0" is not 5. The MRA of a regression has ten thresholds and
    uses `<`. Other problem types score 0, as in the script.
    """
    truth = asked.truth
    if asked.problem_type == "multiple choice":
        return float(answer.strip() == (asked.letter or truth).strip())
    given, right = to_float(answer.replace(",", "")), to_float(truth.replace(",", ""))
    if given is None or right is None:
        return 0.0
    if asked.problem_type == "numerical":
        decimal = ["." in text or "," in text for text in (answer, truth)]
        return float(decimal[0] == decimal[1] and round(given, 2) == round(right, 2))
    if asked.problem_type == "regression":
        return _mra_of_video_r1(given, right)
    return 0.0


def match_letter(text: str, asked: Asked) -> Reading:
    """Score an answer that must be exactly the letter of the right option.

    Like Video-R1's rule, it reads the text inside `<answer>` if there is one.
    """
    text = (tagged_answer(text) or text).strip()
    return letter_reading(text, float(text == (asked.letter or asked.truth)))


def letter_reading(text: str, score: float) -> Reading:
    """Return the reading of a choice. A wrong answer that is not a letter counts as unparsable."""
    return Reading(text if score or (len(text) == 1 and text.isalpha()) else None, score)


def mra_of(given: float, right: float, convention: str = "official") -> float | None:
    """Return the MRA of two numbers in a convention.

    - "official": VSI-Bench's code. The truth keeps its sign; None if it is 0 or not a number.
    - "eleven": the same with eleven evenly spaced thresholds.
    - "strict": Video-R1's code. `<` in place of `<=`, 32-bit floats, and the error is divided by
      |truth| + 1e-8. So a truth of 0 has an MRA.

    Raises KeyError for an unknown convention.
    """
    if convention == "strict":
        return _mra_of_video_r1(given, right)
    if right == 0 or math.isnan(right):
        return None
    return float(np.mean(abs(given - right) / right <= 1 - _THRESHOLDS[convention]))


def _mra_of_video_r1(given: float, right: float) -> float:
    said, truth = np.float32(given), np.float32(right)
    with np.errstate(all="ignore"):  # infinite numbers
        error = np.abs(said - truth) / (np.abs(truth) + np.float32(1e-8))
        return float(np.mean(error < np.float32(1) - _VIDEO_R1_THRESHOLDS))


def to_float(text: str) -> float | None:
    """Return the number that Python reads in a text, or None."""
    try:
        return float(text)
    except ValueError:
        return None


# ---- the robust rule: reads an answer in any usual form

# In a longer answer an option's words may occur anywhere. Only the end states the conclusion.
_TAIL = 2000
_LETTERS = [f"{letter}. " for letter in "ABCDEFGHIJ"]


def read_robustly(output: str, asked: Asked, rating: float | None = None) -> Reading:
    """Score an output the way a careful reader would.

    Tags are removed, malformed ones too. A choice may be written as "B", "(B)", "B. text", the
    text of an option, or the last definite choice of a longer answer. Other problem types are
    scored by `p2r.scoring.accuracy`. An output without an answer is wrong. Without a reference
    answer the score is the `rating` of an LLM, if one was stored.
    """
    if not asked.truth:
        return Reading(None, valid_rating(rating))
    answer = answer_of(output) or _outside_thinking(output)
    if asked.problem_type == "multiple choice":
        chosen = read_option(answer, asked.options)
        right = chosen == asked.letter or _same_text(chosen, asked.letter, asked.options)
        return Reading(chosen, None if asked.letter is None else float(right))
    return Reading(answer, accuracy(asked.problem_type, answer, asked.truth, asked.options))


_STRAY = re.compile(r"</?\s*(?:observation|think|answer)\s*>", re.IGNORECASE)


def _outside_thinking(output: str) -> str | None:
    """Return the text after the thinking of a response without `<answer>`, or None."""
    _, end, rest = output.rpartition("</think>")
    if not end and "<think>" in output:
        return None  # it never ends
    return _STRAY.sub("", rest).strip() or None


def _same_text(chosen: str | None, letter: str | None, options: Sequence[str]) -> bool:
    """Return whether two letters name options with the same text."""
    texts = option_texts(options) if chosen and letter and options else {}
    return bool(texts.get(chosen or "")) and texts[chosen or ""] == texts.get(letter or "")


def valid_rating(rating: float | None) -> float | None:
    """Return an LLM's rating, or None if there is none or it is negative (the LLM failed)."""
    return None if rating is None or rating < 0 else rating


def read_option(answer: str | None, options: Sequence[str]) -> str | None:
    """Return the letter of the option that an answer names or concludes with, or None."""
    if not answer:
        return None
    found = extract_choice(answer[:_TAIL] if len(answer) > 2 * _TAIL else answer, options or None)
    if found is not None:
        return found
    found = think_choice(answer[-_TAIL:], options or _LETTERS)
    short = len(answer.split()) <= LONGEST_REMARK
    return None if found and short and mentions(answer) - {found} else found


# Many outputs are one letter. Each of them is read once per set of options.


@lru_cache(maxsize=1 << 16)
def _read_short(
    robust: Callable[..., Reading], output: str, asked: Asked, rating: float | None
) -> Reading:
    return robust(output, asked, rating)
