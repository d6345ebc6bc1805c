"""The readings of direct answers that VideoMMMU's evaluation uses (lmms-eval, after MMMU).

A choice is the letter in the most telling form, the last one of that form. An open answer is right
if a number it gives is the reference to two decimals, or the reference is part of what it says
after words such as "is".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_PHRASES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is"),
    *("the best answer is", "best answer is", "the correct option is", "correct option is"),
    *("the best option is", "best option is", "the choice is", "choice is"),
    *("the correct choice is", "correct choice is", "i choose", "i select", "i pick"),
    *(
        "my answer is",
        "my choice is",
        "옵션",
        "정답은",
        "답은",
        "답:",
        "答案是",
        "答案为",
        "选",
        "答えは",
    ),
)
# A letter in one of these forms, the most telling last.
_FORMS = ("{} ", "{})", "{}:", "{}.", "({})")
_INDICATORS = (
    *("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ", "are "),
    *("in total ", "total ", "identify ", "recognize ", "calculated as ", "counted as "),
    *("measured as ", "observed as ", "concluded as ", "found to be ", "equals "),
    *("determined to be ", "number of ", "value is ", "adds up to ", "have ", "has "),
)
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def read_choice(response: str, letters: Sequence[str]) -> str | None:
    """The letter that a response names, or None (extract_mcq_answer of lmms-eval).

    Forms by weight: the response begins with it, ends with it, it follows "the answer is", "(B)",
    "B.", "B:", "B)", "B "; without any of these the last letter that occurs at all. Within a form
    the last place counts. Fault kept: after a phrase every letter counts, wherever it stands, so
    that of "the answer is B, as in A Cat" it is C.
    """
    text = response.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    if not text:
        return None
    bare, text = text.strip(), f" {text} "
    found: list[tuple[int, int, str]] = []  # weight of the form, place, letter
    for weight, form in enumerate(_FORMS, start=1):
        places = [(text.rfind(form.format(letter)), letter) for letter in letters]
        found += [(weight, place, letter) for place, letter in places if place >= 0]
    lower = text.lower()
    for phrase in _PHRASES:
        if (at := lower.find(phrase)) >= 0:
            places = [(text.find(letter, at + len(phrase)), letter) for letter in letters]
            found += [(7, place, letter) for place, letter in places if place >= 0]
    for letter in letters:
        if bare.startswith(letter) and not bare[1:2].isalpha():
            found.append((10, 0, letter))
        if bare.endswith(letter) and not bare[-2:-1].isalpha():
            found.append((9, len(text) - 1, letter))
    if not found:
        found = [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    return max(found, key=lambda one: one[:2])[2] if found else None


def same_open_answer(response: str, truth: str) -> bool:
    """Whether an open answer is right (parse_open_response and eval_open of MMMU)."""
    if not response:
        return False
    right = _normal(truth)
    for said in _key_answers(response):
        if isinstance(said, float):
            if said in right:
                return True
        elif any(isinstance(norm, str) and norm in said for norm in right):
            return True
    return False


def _key_answers(response: str) -> list[str | float]:
    """What a response may be saying: of each line the shortest rest after an indicator; numbers."""
    lines = response.strip().strip(".").lower().split("\n")
    keys = []
    for index, line in enumerate(lines):
        indicators = (*_INDICATORS, "=") if index == len(lines) - 1 else _INDICATORS
        rests = [line.split(word)[-1].strip() for word in indicators if word in line]
        shortest = ""
        for rest in rests:
            if not shortest or len(rest) < len(shortest):
                shortest = rest
        if shortest and shortest not in (":", ",", ".", "!", "?", ";", "'"):
            keys.append(shortest)
    keys = keys or ["\n".join(lines)]
    numbers = [n for key in keys for pattern in _NUMBERS for n in pattern.findall(key)]
    return [normal for text in keys + numbers for normal in _normal(text)]


def _normal(text: str) -> list[str | float]:
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
    return [f" {text}", f"{text} "] if len(text) == 1 else [text]
