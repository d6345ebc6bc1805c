"""VideoMMMU: the rule of its authors, in the two versions that exist.

The README of github.com/EvolvingLMMs-Lab/VideoMMMU (commit 88b4ac3, 2025-09-05) says that the
evaluation is part of lmms-eval and to install that. The same group maintains both, so the CURRENT
script is github.com/EvolvingLMMs-Lab/lmms-eval, `tasks/videommmu/utils.py` with
`tasks/_task_utils/mcq_extract.py`, commit 75571cf (2026-08-06); the rule changed last in 7a69a9a
(2026-04-11). The repository of the benchmark keeps its first copy
(`lmms_eval/tasks/videommmu/utils.py`, MMMU's parser, unchanged since cde7e56, 2025-01-22). Scores
from before 2026 can only come from it. The two DISAGREE on choices; `version` picks one. They share
the reading of open answers.

- Question type "multiple-choice": a letter, A for the first option and so on, whatever the options'
  texts begin with. Every other type is read as an open answer. An item of type "perception" is then
  compared as a choice, so it is always wrong (no such file was seen).
- lmms-eval: an output without a letter, an empty one too, is wrong. First copy: an empty output or
  "API Error" is left out of every mean; without a letter the text of an option is looked for.
- Open: "" and "API Error" are left out of every mean; white space alone is not "" and is wrong.
- No LLM. The mean is micro over all items that are left; subjects and six disciplines have their
  own micro means. Each track is a task of its own.

Second source: VLMEvalKit e8e78f0 (2026-08-18) `videommmu.py` has the first copy's parser, but reads
only what follows the last "Answer:". It differs there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from string import ascii_uppercase

from authors_rules import Outcome

LEFT_OUT = ("", "API Error")


def score(
    question_type: str,
    output: str,
    options: Sequence[str],
    answer: str,
    version: str = "lmms-eval",
) -> Outcome:
    """Return right, wrong, or None for an item that is left out."""
    if question_type == "multiple-choice":
        letters = ascii_uppercase[: len(options)]
        if version == "lmms-eval":
            letter = read_choice(output, letters)
        elif output in LEFT_OUT:
            return Outcome(None)
        else:
            letter = read_choice_first_copy(output, letters, options)
        return Outcome(float(letter == answer), letter or None)
    if output in LEFT_OUT:
        return Outcome(None)
    if question_type == "perception":
        return Outcome(0.0)
    return Outcome(float(is_same_open(read_open(output), answer)), output)


# ---- choices, lmms-eval

_CUES = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is"),
    *("the best answer is", "best answer is", "the correct option is", "correct option is"),
    *("the best option is", "best option is", "the choice is", "choice is"),
    *("the correct choice is", "correct choice is", "i choose", "i select", "i pick"),
    *("my answer is", "my choice is", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选"),
    "答えは",
)


def read_choice(output: str, letters: str) -> str:
    """Return the letter of the strongest form, the last one in that form; "" if there is none.

    Forms from strong to weak: at the start, at the end, after a cue, "(B)", "B.", "B:", "B)", "B ".
    If no form occurs, the last letter anywhere. Between equal places the first letter wins.
    """
    if not output or not output.strip():
        return ""
    text = output.strip()
    for mark in ",.!?;:'\"":
        text = text.strip(mark)
    text = f" {text} "
    bare = text.strip()
    found: list[tuple[int, int, str]] = []
    for rank, form in ((6, "({})"), (5, "{}."), (4, "{}:"), (3, "{})"), (2, "{} ")):
        for letter in letters:
            if (place := text.rfind(form.format(letter))) >= 0:
                found.append((rank, place, letter))
    low = text.lower()
    for cue in _CUES:
        if (start := low.find(cue)) < 0:
            continue
        for letter in letters:
            if (place := text.find(letter, start + len(cue))) >= 0:
                found.append((7, place, letter))
    for letter in letters:
        if bare.startswith(letter) and (len(bare) == 1 or not bare[1].isalpha()):
            found.append((10, 0, letter))
        if bare.endswith(letter) and (len(bare) == 1 or not bare[-2].isalpha()):
            found.append((9, len(text) - 1, letter))
    if not found:
        found = [(0, text.rfind(letter), letter) for letter in letters if letter in text]
    found.sort(key=lambda one: one[:2], reverse=True)
    return found[0][2] if found else ""


# ---- choices, first copy


def read_choice_first_copy(output: str, letters: str, options: Sequence[str]) -> str:
    """Return the letter by MMMU's parser; "No Answere Found" if there is none."""
    text = output
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    dotted = [letter for letter in letters if f"{letter}." in text]
    colons = [letter for letter in letters if f"{letter}:" in text]
    form, found = "{}.", dotted + colons
    if not dotted:
        form = "{}:"
    if not found:
        form, found = "({})", [letter for letter in letters if f"({letter})" in text]
    if not found:
        form, found = " {} ", [letter for letter in letters if f"{letter} " in text]
    if not found and len(text.split()) > 5:
        low = text.lower()
        texts = dict(zip(letters, (option.lower() for option in options), strict=True))
        named = [letter for letter in letters if texts[letter] in low]
        return max(named, key=lambda one: low.rfind(texts[one])) if named else "No Answere Found"
    if not found:
        return "No Answere Found"
    return max(found, key=lambda letter: text.rfind(form.format(letter)))


# ---- open answers

_KEYS = (
    *("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ", "are "),
    *("in total ", "total ", "identify ", "recognize ", "calculated as ", "counted as "),
    *("measured as ", "observed as ", "concluded as ", "found to be ", "equals "),
    *("determined to be ", "number of ", "value is ", "adds up to ", "have ", "has "),
)
_COMMAS = re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b")
_POWERS = re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+")
_PLAIN = re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])")


def read_open(output: str) -> list[str | float]:
    """Return everything that the output may be saying: the ends of its lines, and their numbers.

    The text is lower case before it is split, so the script's split at ". Capital" never happens.
    """
    text = output.strip().strip(".").lower()
    lines = text.split("\n")
    said = []
    for place, line in enumerate(lines):
        keys = (*_KEYS, "=") if place == len(lines) - 1 else _KEYS
        shortest = ""
        for key in keys:
            if key in line:
                rest = line.split(key)[-1].strip()
                shortest = rest if not shortest or len(rest) < len(shortest) else shortest
        if shortest and shortest not in (":", ",", ".", "!", "?", ";", "'"):
            said.append(shortest)
    said = said or [text]
    numbers = [n for one in said for kind in (_COMMAS, _POWERS, _PLAIN) for n in kind.findall(one)]
    return [value for one in said + numbers for value in normalise(one)]


def normalise(text: str) -> list[str | float]:
    """Return a number with two decimals, or the lower case text; one letter gets a blank beside."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        low = text.lower()
        return [f" {low}", f"{low} "] if len(low) == 1 else [low]


def is_same_open(said: Iterable[str | float], answer: str) -> bool:
    """Return whether a number equals the reference, or a text contains it."""
    right = normalise(answer)
    texts = [one for one in right if isinstance(one, str)]
    return any(
        any(text in one for text in texts) if isinstance(one, str) else one in right for one in said
    )


# ---- means


def summarise(items: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Return the accuracy by subject and "Overall", both rounded to five digits.

    Items are (id, score). The subject is between the first "_" and the last "_NUMBER" of the id.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for identity, value in items:
        if value is None:
            continue
        subject = re.fullmatch(r"[^_]*_(.+?)_\d+", identity)
        if subject is None:
            raise ValueError(f"no subject in {identity!r}")
        for name in (subject.group(1), "Overall"):
            scores[name].append(value)
    return {name: round(sum(values) / len(values), 5) for name, values in scores.items()}
