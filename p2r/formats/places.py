"""Answers that are the index of an option ("0", 3) instead of its letter.

Files count options from 0 or from 1, and most records do not show which. All records of a file
together can show it: an index of 0 means from 0, an index equal to the number of options means from
1. A number that equals the text or label of an option is not an index.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from string import ascii_uppercase

from p2r.formats.fields import INFERRED
from p2r.formats.values import BadValue
from p2r.records import Question
from p2r.template import option_labels

_INDEX = re.compile(r"\s*(\d{1,2})(?:\.0)?\s*")
# A label that `option_labels` does not know, such as "Option 1: left".
_LABEL = re.compile(r"\W*(?:[A-Za-z]+ )?(\d{1,2})(?:[):\]、]|\.(?!\d))")


def index_of(text: str, options: Sequence[str]) -> int | None:
    """Return the index that a text gives; None if it says something else."""
    match = _INDEX.fullmatch(text)
    if match is None:
        return None
    taken = {part for label in option_labels(options) for part in (label.name, label.text)}
    taken |= {label[1] for option in options if (label := _LABEL.match(option))}
    return None if match[1] in {part.rstrip(".").strip() for part in taken} else int(match[1])


def first_index(pairs: Iterable[tuple[int, Sequence[str]]]) -> int | None:
    """Return 0 or 1, the index of the first option, from indices and the options that they mean.

    None if the indices fit both, or if one of them fits only 0 and another only 1.
    """
    zero = one = False
    for index, options in pairs:
        zero |= index == 0
        one |= index == len(options) > 0
    return None if zero == one else int(one)


def letter(index: int, base: int, options: Sequence[str]) -> str | None:
    """Return the letter of the option at an index; `base` is the index of the first option."""
    known = min(len(options) or len(ascii_uppercase), len(ascii_uppercase))
    return ascii_uppercase[index - base] if 0 <= index - base < known else None


def place_of(question: Question) -> int | None:
    """Return the answer of a multiple-choice question if it is the index of an option."""
    count = len(question.options)
    if question.problem_type != "multiple choice" or count < 2 or count > len(ascii_uppercase):
        return None
    index = index_of(question.answer, question.options)
    return None if index is None or index > count else index


def find_base(questions: Iterable[Question]) -> int | None:
    """Return the index of the first option in the answers of a file; None if it is not clear."""
    pairs = ((place_of(question), question.options) for question in questions)
    return first_index((place, options) for place, options in pairs if place is not None)


def as_letter(question: Question, place: int, base: int | None) -> Question:
    """Return the question with the letter of the option at an index; `base` is from `find_base`.

    Raises BadValue if it is not clear whether the file counts from 0 or from 1.
    """
    found = None if base is None else letter(place, base, question.options)
    if found is None:
        raise BadValue(
            f"the answer {place} may count the options from 0 or from 1: give a letter or the "
            "text of the option"
        )
    note = f"letter of the answer from its index, counted from {base}"
    meta = question.meta | {INFERRED: [*question.meta.get(INFERRED, ()), note]}
    return question.model_copy(update={"answer": found, "meta": meta})
