"""Read the values of raw records: text, lists in a string, options, problem types, data types."""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from p2r.records import PROBLEM_TYPES, DataType

Raw = dict[str, Any]
_DEEPEST = 100  # levels of lists and objects in a record
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


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


def usual_key(key: Any) -> str:
    """Return a key in lower case with underscores: "videoPath" and "Video Path" → video_path."""
    return re.sub(r"(?<=[a-z\d])(?=[A-Z])|[ -]", "_", str(key)).lower()


def usual_keys(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record with usual keys. If several keys become one, its usual spelling wins."""
    if all(key.islower() for key in record):
        return record
    usual = {usual_key(key): key for key in record}
    return {new: record.get(new, record[key]) for new, key in usual.items()}


def one(value: Any) -> Any:
    """Return the item of a list of one, and any other value as it is."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def text_of(value: Any) -> str:
    """Return a scalar as text. Whole floats lose their ".0"; an absent value (NaN too) is ""."""
    if isinstance(value, list | tuple | dict):
        raise BadValue(f"a list or an object instead of text: {short(value)}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables write whole numbers with empty cells beside them as floats
    return "" if blank(value) else str(value)


def problem_of(value: Any) -> str:
    """Return the text of a question."""
    if not isinstance(value, str) or not value.strip():
        raise BadValue("no problem text")
    return value


def refuse_unwritable(value: Any, key: str = "", depth: int = 0) -> None:
    """Refuse what JSON allows but files do not: lone surrogates and very deep nesting."""
    if depth > _DEEPEST:
        raise BadValue(f"{key} is nested too deeply")
    if isinstance(value, str):
        if not value.isascii() and _HALF_CHARACTER.search(value):
            raise BadValue(f"{key} contains a lone surrogate (half a character)")
    elif isinstance(value, dict):
        for name, part in value.items():
            refuse_unwritable(name, "a key", depth)
            refuse_unwritable(part, key or name, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            refuse_unwritable(part, key, depth + 1)


# Spellings of problem types in other data sets, without case, blanks, dashes and underscores.
_CHOICES = ("mc", "mcq", "mcqa", "multichoice", "multiplechoices", "choice", "singlechoice")
_TYPES = {re.sub(r"[\W_]", "", name).lower(): name for name in PROBLEM_TYPES} | {
    **dict.fromkeys(_CHOICES, "multiple choice"),
    **dict.fromkeys(("open", "openended", "oe", "freeform", "free"), "free-form"),
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

_LABELLED_LINE = re.compile(
    r"^[ \t]*[(（\[]?([A-Za-zＡ-Ｚ])(?:[.:)）．：、]|\]:?)[ \t]*(.*?)[ \t\r]*$", re.MULTILINE
)
_LABELLED_INLINE = re.compile(
    r"(?:^|(?<=\s)|(?=（[A-Za-z]）))(?:[(（]([A-Za-zＡ-Ｚ])[)）]|([A-Za-zＡ-Ｚ])(?:[.)]\s|[）．、]))\s*(?=\S)"
)
_TITLE = re.compile(
    r"\n?[ \t]*(?:options?|choices|candidates|选项|選項)\s*[:：]?[ \t\r]*$", re.IGNORECASE
)
_LABELS = ("label", "letter", "key", "id", "option_id", "index")
_LISTS = ("texts", "options", "choices", "candidates")
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
        value = split_options(value)[1] or _parts_of(value)
    if isinstance(value, Mapping):
        value = _options_of_object(value)
    if blank(value):
        return []
    if not isinstance(value, list | tuple):
        raise BadValue(f"options are not a list: {short(given)}")
    options = list(value)
    while options and blank(options[-1]):
        options.pop()
    return [_option(option) for option in options]


def _parts_of(text: str) -> str | list[str]:
    """Return the options of a text with one per line or "|" between them; else the text."""
    for separator in ("\n", "|"):
        parts = [part.strip() for part in text.split(separator) if part.strip()]
        if len(parts) > 1:
            return parts
    return text


def _options_of_object(value: Mapping[Any, Any]) -> list[Any]:
    """Return the options of an object: a text by label, or lists of texts and of labels."""
    texts = next((value[k] for k in (*_TEXTS, *_LISTS) if isinstance(value.get(k), list)), None)
    if texts is None:
        return [(key, text) for key, text in value.items() if not blank(text)]
    labels: list[Any] = next((value[k] for k in _LABELS if isinstance(value.get(k), list)), [])
    same = len(labels) == len(texts)
    return list(zip(labels, texts, strict=True)) if same else list(texts)


def _option(value: Any) -> str:
    if isinstance(value, Mapping) and len(value) == 1 and not value.keys() & {*_TEXTS}:
        value = next(iter(value.items()))
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
    if labels := _in_order(match[1] for match in lines):
        between = "".join(text[one.end() : two.start()] for one, two in pairwise(lines))
        if between.isspace():
            head = _TITLE.sub("", text[: lines[0].start()].rstrip())
            rest = text[lines[-1].end() :].strip()
            question = "\n".join(filter(None, (head.rstrip(), rest)))
            return question, [
                f"{label}. {match[2]}" for label, match in zip(labels, lines, strict=True)
            ]
    found = list(_LABELLED_INLINE.finditer(text))
    if labels := _in_order(match[1] or match[2] for match in found):
        ends = [match.start() for match in found[1:]] + [len(text)]
        options = [
            f"{label}. {text[match.end() : end].strip().rstrip(';,；，')}"
            for label, match, end in zip(labels, found, ends, strict=True)
        ]
        if not any("\n" in option for option in options):
            return _TITLE.sub("", text[: found[0].start()].rstrip()).rstrip(), options
    return text, []


def names_option(answer: str, options: Sequence[str]) -> bool:
    """Return whether a reference answer is the letter or the text of one of labelled options."""
    plain = answer.strip().casefold()
    letter = re.match(r"\(?([a-z])(?![a-z0-9])", plain)
    if letter and ascii_lowercase.index(letter[1]) < len(options):
        return True
    return any(plain in (o.casefold(), o[3:].casefold()) for o in map(str.strip, options))


def _in_order(labels: Iterable[str]) -> str:
    """Return two or more labels that run A, B, C … or a, b, c … as capitals; else ""."""
    plain = unicodedata.normalize("NFKC", "".join(labels))
    runs = len(plain) > 1 and ascii_uppercase.startswith(plain.upper())
    return plain.upper() if runs and (plain.isupper() or plain.islower()) else ""


# ---- problem types that a record does not name


# "-1,234.5", "1e3", "3/4", "½", "1 ½", "\\frac{1}{2}", "$5", "50 %".
_A_NUMBER = re.compile(
    r"[-+−]?\s?[$€£¥]?\s?(?:[\d,]*\.?\d+(?:e[-+]?\d+)?(?:\s?/\s?\d+)?(?:\s?[¼-¾⅐-⅞])?|[¼-¾⅐-⅞]"
    r"|\\[dt]?frac\s?(?:\d\s?\d|\{-?\d+\}\s?\{-?\d+\}))\s*\\?%?",
    re.IGNORECASE,
)


def infer_problem_type(options: Sequence[str], answer: str) -> str:
    """Return the problem type that follows from the options and the reference answer."""
    if len(options) > 1 or re.fullmatch(r"\(?[A-J]\)?\.?", answer.strip()):
        return "multiple choice"
    plain = answer.strip().strip("$").strip() if "\\" in answer else answer.strip()
    return "numerical" if _A_NUMBER.fullmatch(plain) else "free-form"
