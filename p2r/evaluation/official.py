"""The official scoring rules, one per benchmark, with their faults where they change a score.

A rule reads a direct answer as the benchmark's own script does. What a reasoning model answers
inside `<answer>` is read by the same rule; such scripts know no tags, so that a whole response with
reasoning would be scored by its first capital letter. A response that reasons and never answers is
wrong. Where a source stored the answer that it extracted, that is what is compared, by Video-R1's
rule (exact match).

| benchmark   | rule, and where it is from                                                     |
|-------------|--------------------------------------------------------------------------------|
| VSI-Bench   | first word without its full stop; letters without case, numbers by MRA         |
|             | (thinking-in-space, vsibench/utils.py)                                         |
| VideoMMMU   | direct: the parsers of lmms-eval (videommmu/utils.py); after reasoning:        |
|             | Video-R1's exact match and two decimals (eval_bench.py)                        |
| MMVU, VCR   | exact match of the letter (their authors ask an LLM; Video-R1 and TW-GRPO      |
|             | compare so); VCR: the stored verdict where one was stored                      |
| MVBench     | the first word names the option, or is part of its letter (VideoChat2,         |
|             | mvbench.ipynb: check_ans)                                                      |
| TempCompass | eval_multi-choice.py, eval_yes_no.py, eval_caption_matching.py, all with       |
|             | --disable_llm, or with the rating an LLM gave where it was stored              |
| Video-MME   | first of A B C D in the response without phrases such as "The answer is"       |
|             | (eval_your_results.py): what has none is not answered, and left out            |
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from p2r.evaluation.mmmu import read_choice, same_open_answer
from p2r.scoring import MRA_CONVENTIONS, accuracy
from p2r.scoring.answers import extract_choice, option_texts
from p2r.template import answer_of


class Reading(NamedTuple):
    """What a rule read in an output and what that scores; None: left out of the mean.

    `extraction` None: nothing could be read.
    """

    extraction: str | None
    score: float | None


class Asked(NamedTuple):
    """What a rule knows of the question; `letter` is the right option's, `task` the main part."""

    truth: str
    problem_type: str
    options: Sequence[str]
    task: str
    letter: str | None


Rule = Callable[[str, Asked], Reading]
_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)
_REASONS = ("<think>", "<observation>")


def score_official(
    benchmark: str, output: str, asked: Asked, stored: dict[str, Any] | None = None
) -> Reading:
    """The official reading of an output; `stored` is what its source had: extraction, rating."""
    stored = stored or {}
    if not asked.truth and not {"rating", "verdict"} & stored.keys():
        return Reading(None, None)
    if "verdict" in stored:
        return Reading(stored.get("extraction"), stored["verdict"])
    if (said := stored.get("extraction")) is not None and benchmark != "playground":
        if benchmark == "vsibench" and asked.problem_type != "multiple choice":
            return _vsi(said, asked)
        whole = said == output and any(tag in output for tag in _REASONS)  # nothing was extracted
        return Reading(
            said.strip() or None if not whole else None, match_like_video_r1(said, asked)
        )
    text = output
    if any(tag in output for tag in _REASONS) and benchmark not in ("playground", "videommmu"):
        answer = _ANSWER.search(output)
        if answer is None or not answer[1].strip():
            return Reading(None, 0.0)
        text = answer[1].strip()
    reading = _RULES[benchmark](text, asked)
    if "rating" in stored and reading.extraction is None:
        return Reading(None, stored["rating"])
    return reading


def match_like_video_r1(answer: str, asked: Asked) -> float:
    """Video-R1's reward of an extracted answer (reward_fn of eval_bench.py).

    Letters are compared exactly. Two numbers must both have a point or a comma, or neither, and be
    equal to two decimals, so that "5.0" is not 5. MRA of a regression has ten thresholds and `<`.
    Other types score 0, as they do there.
    """
    truth = asked.truth
    if asked.problem_type == "multiple choice":
        return float(answer.strip() == (asked.letter or truth).strip())
    given, right = _float(answer.replace(",", "")), _float(truth.replace(",", ""))
    if given is None or right is None:
        return 0.0
    if asked.problem_type == "numerical":
        decimal = ["." in text or "," in text for text in (answer, truth)]
        return float(decimal[0] == decimal[1] and round(given, 2) == round(right, 2))
    if asked.problem_type == "regression":
        return mra_of(given, right, "strict") or 0.0
    return 0.0


def mra_of(given: float, right: float, convention: str = "official") -> float | None:
    """MRA of two numbers as the official code has it: the error is divided by the truth, signed."""
    if right == 0 or math.isnan(right):
        return None
    thresholds, border = MRA_CONVENTIONS[convention]
    error = abs(given - right) / right
    return float(np.mean(error <= 1 - thresholds if border else error < 1 - thresholds))


def first_word(text: str) -> str:
    """VSI-Bench's reading of an answer: up to the first space, without full stops at its end."""
    return text.split(" ")[0].rstrip(".").strip()


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# ---- rules


def _vsi(text: str, asked: Asked) -> Reading:
    word = first_word(text)
    if asked.problem_type == "multiple choice":
        right = asked.letter or asked.truth
        return _choice(word, float(word.lower() == right.lower()))
    given, right = _float(word), _float(asked.truth)
    if right is None or (score := mra_of(0.0 if given is None else given, right)) is None:
        return Reading(word or None, None)
    return Reading(None, 0.0) if given is None else Reading(word, score)


def _videommmu(output: str, asked: Asked) -> Reading:
    if any(tag in output for tag in _REASONS):
        answer = _ANSWER.search(output)
        said = answer[1].strip() if answer else ""
        # Video-R1 falls back on the whole response, which never is a letter.
        return Reading(said or None, match_like_video_r1(said or output, asked))
    if asked.problem_type == "multiple choice":
        letters = list(option_texts(asked.options)) or list("ABCD")
        found = read_choice(output, letters)
        return Reading(found, float(found == (asked.letter or asked.truth)))
    return Reading(output.strip() or None, float(same_open_answer(output, asked.truth)))


def _exact(text: str, asked: Asked) -> Reading:
    text = text.strip()
    return _choice(text, float(text == (asked.letter or asked.truth)))


def _choice(text: str, score: float) -> Reading:
    """What is wrong and no letter either says nothing: it counts as unparsable."""
    return Reading(text if score or (len(text) == 1 and text.isalpha()) else None, score)


def _mvbench(text: str, asked: Asked) -> Reading:
    """Faults kept: a first word that is part of "(b)" is right, such as ")"; "banana (b)" is not.

    Not kept: the script has an empty answer right; here, as in its later copies, a first word
    without any of the letters a to g is wrong.
    """
    word = text.lower().split(" ")[0]
    option = f"({(asked.letter or asked.truth).lower()})"
    if not any(letter in word for letter in "abcdefg"):
        return Reading(None, 0.0)
    return Reading(word, float(word.replace(".", "") in option or option in word))


def _tempcompass(text: str, asked: Asked) -> Reading:
    text = text.replace("</s>", "")
    return _TEMPCOMPASS.get(asked.task, _choose_sentence)(text, asked)


def _choose_sentence(text: str, asked: Asked) -> Reading:
    answer = asked.truth
    if text == answer:
        return Reading(text, 1.0)
    letter = text[:1] if text in ("A", "B", "C", "D") or text[1:2] in (".", ")") else ""
    if letter not in ("A", "B", "C", "D"):
        return Reading(None, 0.0)
    return Reading(letter, float(letter == answer[:1]))


def _yes_or_no(text: str, asked: Asked) -> Reading:
    """Fault kept: "nothing" and "not sure" say no."""
    said = next((word for word in ("yes", "no") if text.lower().startswith(word)), None)
    return Reading(said, float(said == asked.truth))


def _match_caption(text: str, asked: Asked) -> Reading:
    """Faults kept: a caption is cut at its second colon, and after ") " if the answer has one."""
    named: str | None = None
    pieces = [option.split(": ") for option in asked.options]
    if text in asked.options:
        named = text
    for piece in pieces:
        sentence = piece[1] if len(piece) > 1 else piece[0]
        if sentence == text or (") " in text and sentence == text.split(") ")[1]):
            named = sentence
    for piece in pieces:
        if piece[0] in (text, text.replace(".", "")):
            named = piece[0]
    if named is None:
        return Reading(None, 0.0)
    truth = asked.truth
    right = (truth, truth.split(":")[0], *truth.split(": ")[1:2])
    return Reading(named, float(named in right))


def _caption(text: str, asked: Asked) -> Reading:
    """A caption is right if an LLM answers the question from it: unknown without its rating."""
    return Reading(None, None)


_TEMPCOMPASS: dict[str, Rule] = {
    "multi-choice": _choose_sentence,
    "yes_no": _yes_or_no,
    "caption_matching": _match_caption,
    "captioning": _caption,
}

# As in the script: two of its lines end without a comma, so that four phrases are two.
_PHRASES = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
    "Answer:",
    "Option:",
    "The correct answer",
    "The correct option",
)
_ABCD = re.compile("[ABCD]")


def _videomme(text: str, asked: Asked) -> Reading:
    """Faults kept: "Based on it, C" is B; what has no letter counts neither right nor wrong."""
    text = text.strip()
    for phrase in _PHRASES:
        text = text.replace(phrase, "")
    found = _ABCD.search(text)
    if found is None:
        return Reading(None, None)
    return Reading(found[0], float(found[0] == (asked.letter or asked.truth)))


def _playground(text: str, asked: Asked) -> Reading:
    answer = answer_of(text)
    score = accuracy(asked.problem_type, answer, asked.truth, asked.options)
    if asked.problem_type == "multiple choice":
        answer = extract_choice(answer, asked.options) if answer else None
    return Reading(answer, score)


_RULES: dict[str, Rule] = {
    "vsibench": _vsi,
    "videommmu": _videommmu,
    "mmvu": _exact,
    "vcrbench": _exact,
    "mvbench": _mvbench,
    "tempcompass": _tempcompass,
    "videomme": _videomme,
    "playground": _playground,
}
