"""Read the values of raw records: text, lists in a string, options, problem types, data types."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from string import ascii_uppercase
from typing import Any

from p2r.records import PROBLEM_TYPES, DataType

Raw = dict[str, Any]


class BadValue(ValueError):
    """The reason why a record is bad, in one line."""


def short(value: Any) -> str:
    """Return a value as text of at most 60 characters, for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def literal(text: str) -> Any:
    """Return the value of a text in JSON or Python syntax; the text itself if it has neither."""
    for evaluate in (json.loads, ast.literal_eval):
        try:
            return evaluate(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def blank(value: Any) -> bool:
    """Return whether a value stands for "none": null, NaN, an empty text, list or object."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str | Sequence | Mapping) and not len(value))


def one(value: Any) -> Any:
    """Return the item of a list of one, and any other value as it is."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def text_of(value: Any) -> str:
    """Return a scalar as text; an absent value is ""."""
    if isinstance(value, list | tuple | dict):
        raise BadValue(f"a list or an object instead of text: {short(value)}")
    return "" if blank(value) else str(value)


def problem_of(value: Any) -> str:
    """Return the text of a question."""
    if not isinstance(value, str) or not value.strip():
        raise BadValue("no problem text")
    return value


# Spellings of problem types in other data sets, without case, blanks, dashes and underscores.
_TYPES = {re.sub(r"[\W_]", "", name).lower(): name for name in PROBLEM_TYPES} | {
    **dict.fromkeys(("mc", "mcq", "mcqa", "multichoice", "multiplechoices"), "multiple choice"),
    **dict.fromkeys(("open", "openended", "freeform", "free"), "free-form"),
    **dict.fromkeys(("number", "numeric", "numericalanswer"), "numerical"),
}


def problem_type_of(value: Any) -> str:
    """Return a problem type of p2r for any usual spelling of it."""
    plain = re.sub(r"[\W_]", "", value).lower() if isinstance(value, str) else ""
    if plain not in _TYPES:
        what = f"unknown problem type {short(value)}" if value else "no problem type"
        raise BadValue(f"{what}: known are {', '.join(PROBLEM_TYPES)}")
    return _TYPES[plain]


TEXT_ONLY = ("text", "text-only", "none")
_DATA_TYPES: dict[str, DataType] = {
    **dict.fromkeys(("video", "videos", "frame", "frames", "gif", *TEXT_ONLY), "video"),
    **dict.fromkeys(("image", "images", "picture"), "image"),
}


def data_type_of(value: Any) -> DataType:
    """Return "video" or "image"; a question without media counts as "video"."""
    plain = value.strip().lower() if isinstance(value, str) else ""
    if plain not in _DATA_TYPES:
        raise BadValue(
            f"unknown data type {short(value)}: known are video, image, and text for a question "
            "without media"
        )
    return _DATA_TYPES[plain]


# ---- options

_LABELLED_LINE = re.compile(r"^[ \t]*\(?([A-Z])[.:)][ \t]*(.*?)[ \t]*$", re.MULTILINE)
_LABELLED_INLINE = re.compile(r"(?:^|(?<=\s))(?:\(([A-Z])\)|([A-Z])[.)])\s+(?=\S)")
_TITLE = re.compile(r"\n?[ \t]*(?:options?|choices|candidates)\s*:?[ \t]*$", re.IGNORECASE)
_LABELS = ("label", "letter", "key", "id", "option_id", "index")
_TEXTS = ("text", "value", "content", "option", "answer", "choice")


def options_of(value: Any) -> list[str]:
    """Return options with their labels.

    Known forms are a list of texts, of [label, text] or of {label, text}, an object by label, one
    option per line, and a text with a list (JSON or Python). Empty values after the last option
    are left out: tables fill short rows with them.
    """
    given = value
    if isinstance(value, str):
        value = literal(value.strip()) if value.strip() not in ("", "nan", "NaN") else []
    if isinstance(value, str):
        value = split_options(value)[1] or value
    if isinstance(value, Mapping):
        value = [(key, text) for key, text in value.items() if not blank(text)]
    if blank(value):
        return []
    if not isinstance(value, list | tuple):
        raise BadValue(f"options are not a list: {short(given)}")
    options = list(value)
    while options and blank(options[-1]):
        options.pop()
    return [_option(option) for option in options]


def _option(value: Any) -> str:
    if isinstance(value, Mapping):
        text = next((value[key] for key in _TEXTS if not blank(value.get(key))), None)
        label = next((value[key] for key in _LABELS if not blank(value.get(key))), None)
        value = (label, text)
    if isinstance(value, list | tuple) and len(value) == 2:
        label, text = value
        if blank(text):
            raise BadValue(f"an option has no text: {short(value)}")
        letter = re.fullmatch(r"\(?([A-Za-z])[.):]?", str(label).strip())
        return f"{letter[1]}. {text_of(text)}" if letter else text_of(text)
    if blank(value):
        raise BadValue("an option between others is empty")
    return text_of(value)


def split_options(text: str) -> tuple[str, list[str]]:
    """Return a question without the options in its text, and the options.

    Options stand one per line or in one line, with labels that run A, B, C … in order. A text
    without at least two of them is returned as it is, without options.
    """
    lines = list(_LABELLED_LINE.finditer(text))
    labels = "".join(match[1] for match in lines)
    if len(lines) > 1 and ascii_uppercase.startswith(labels):
        between = "".join(text[one.end() : two.start()] for one, two in pairwise(lines))
        if between.isspace():
            head = _TITLE.sub("", text[: lines[0].start()].rstrip())
            rest = text[lines[-1].end() :].strip()
            question = "\n".join(filter(None, (head.rstrip(), rest)))
            return question, [f"{match[1]}. {match[2]}" for match in lines]
    found = list(_LABELLED_INLINE.finditer(text))
    labels = "".join(match[1] or match[2] for match in found)
    if len(found) > 1 and ascii_uppercase.startswith(labels):
        ends = [match.start() for match in found[1:]] + [len(text)]
        options = [
            f"{label}. {text[match.end() : end].strip().rstrip(';,')}"
            for label, match, end in zip(labels, found, ends, strict=True)
        ]
        if not any("\n" in option for option in options):
            return _TITLE.sub("", text[: found[0].start()].rstrip()).rstrip(), options
    return text, []


# ---- problem types that a record does not name


def infer_problem_type(options: Sequence[str], answer: str) -> str:
    """Return the problem type that follows from the options and the reference answer."""
    if len(options) > 1 or re.fullmatch(r"\(?[A-J]\)?\.?", answer.strip()):
        return "multiple choice"
    number = re.fullmatch(r"[-+−]?[\d,]*\.?\d+(?:e[-+]?\d+)?\s*%?", answer.strip(), re.IGNORECASE)
    return "numerical" if number else "free-form"
