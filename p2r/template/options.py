"""Options of a multiple-choice question: their labels, texts and letters.

Every option has a letter by its position: A, B, C … A label that an option already has ("A.",
"(b)", "2)", "②", "III.") is recognised only if the labels of all options run in order. The
beginnings of "E. coli" and "J. Smith" are initials, not labels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from string import ascii_uppercase
from typing import NamedTuple

_WORD = r"(?:(?:option|choice|选项|選項)\s*)?"
# "A. left", "A) left", "(A) left", "[A]. left", "A: left", "A - left", "Option A: left"
_LETTER = re.compile(
    rf"\s*(?i:{_WORD})[(\[]?([A-Za-z])(?:[)\]][.:]?|[.:、]|\s+[-–—]+\s)\s*(.*)", re.DOTALL
)
# "1. left", "1) left", "(1) left", "[1] left". "1.5 m" has no label.
_DIGITS = re.compile(
    rf"\s*(?i:{_WORD})(?:[(\[](\d{{1,2}})[)\]][.:]?|(\d{{1,2}})(?:\)|、|\.\s))\s*(.*)", re.DOTALL
)
_ROMAN = re.compile(
    rf"\s*(?i:{_WORD})[(\[]?([IVX]{{1,5}}|[ivx]{{1,5}})(?:[)\]][.:]?|[.:、]\s*)\s*(.*)", re.DOTALL
)
_CIRCLED = re.compile(r"\s*([\u2460-\u249b\u24b6-\u24e9])\s*[.:)]?\s*(.*)", re.DOTALL)
_ROMANS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV")

_SURE_RUN = 3  # bare letters in order; "A man" and "B movie" are texts
_SMALLEST_RUN = 2  # labels in order; one label alone may be an initial


class Label(NamedTuple):
    """The label of an option ("A", "2", "III") and the text after it."""

    name: str
    text: str


def _read_letter(option: str) -> Label | None:
    match = _LETTER.fullmatch(_widths(option))
    return Label(match[1].upper(), match[2].strip()) if match else None


def _read_bare_letter(option: str) -> Label | None:
    match = re.fullmatch(r"\s*([A-Z])\s+(\S.*)", _widths(option), re.DOTALL)
    return Label(match[1], match[2].strip()) if match else None


def _read_digits(option: str) -> Label | None:
    match = _DIGITS.fullmatch(_widths(option))
    return Label(str(int(match[1] or match[2])), match[3].strip()) if match else None


def _read_roman(option: str) -> Label | None:
    match = _ROMAN.fullmatch(_widths(option))
    return Label(match[1].upper(), match[2].strip()) if match else None


def _read_circled(option: str) -> Label | None:
    match = _CIRCLED.fullmatch(option)
    return Label(plain_label(match[1]), match[2].strip()) if match else None


_FULL_WIDTH = str.maketrans("（）［］．：", "()[].:")
_BOLD = re.compile(r"\A\s*\*\*([^*]{1,4})\*\*")


def _widths(option: str) -> str:
    """Return an option with a plain label: "Ａ．", "A）" and "**A.**" become "A.", "A)", "A."."""
    head = option[:12]
    if not head.isascii():
        head = unicodedata.normalize("NFKC", head) if head[0] > "~" else head.translate(_FULL_WIDTH)
    return _BOLD.sub(r"\1", head + option[12:])


def plain_label(text: str) -> str:
    """Return a circled or bracketed label as it is usually written: "②" and "⑵" become "2"."""
    return unicodedata.normalize("NFKC", text).strip("().").upper()


_KINDS: tuple[tuple[Callable[[str], Label | None], Sequence[str]], ...] = (
    (_read_letter, ascii_uppercase),
    (_read_circled, ascii_uppercase),
    (_read_circled, [str(n) for n in range(1, 27)]),
    (_read_digits, [str(n) for n in range(1, 27)]),
    (_read_digits, [str(n) for n in range(26)]),
    (_read_roman, _ROMANS),
    (_read_bare_letter, ascii_uppercase),
)


def option_labels(options: Sequence[str]) -> list[Label]:
    """Return the label and the text of each option.

    Labels count if all options have one and the labels run in order from A, 1, ① or I. With letters
    a part of the options may have no label, if two or more have the letter of their position and
    none has another. Otherwise the label is the letter of the position and the text is the whole
    option.
    """
    return list(_option_labels(tuple(options[: len(ascii_uppercase)])))


@lru_cache(maxsize=4096)  # the same options are used for truth, prediction and thinking
def _option_labels(options: tuple[str, ...]) -> tuple[Label, ...]:
    for read, names in _KINDS:
        found = [read(option) for option in options]
        named = [(label, name) for label, name in zip(found, names, strict=False) if label]
        enough = len(named) == len(options) or (
            read is _read_letter and len(named) >= _SMALLEST_RUN
        )
        enough &= read is not _read_bare_letter or len(options) >= _SURE_RUN
        if enough and all(label.name == name for label, name in named):
            return tuple(
                label or Label(name, option.strip())
                for label, name, option in zip(found, names, options, strict=False)
            )
    pairs = zip(ascii_uppercase, options, strict=False)
    return tuple(Label(letter, option.strip()) for letter, option in pairs)


def option_texts(options: Sequence[str]) -> dict[str, str]:
    """Return the text of each option by its letter, without its label."""
    return {
        letter: label.text
        for letter, label in zip(ascii_uppercase, option_labels(options), strict=False)
    }


def lettered_options(options: Sequence[str]) -> list[str]:
    """Return the options with a letter each. Options whose letters run A, B, C … stay unchanged.

    Options after the 26th have no letter.
    """
    letters = [read.name if (read := _read_letter(option)) else None for option in options]
    if letters == list(ascii_uppercase[: len(options)]):
        return list(options)
    shown = [f"{letter}. {text}" for letter, text in option_texts(options).items()]
    return [*shown, *options[len(ascii_uppercase) :]]
