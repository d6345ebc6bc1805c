"""Turn the index of an option, given as the answer, into its letter.

Files count options from 0 or from 1, and most records do not show which. The whole file can show
it: an index of 0 means from 0, an index equal to the number of options means from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from string import ascii_uppercase

from p2r.formats.fields import INFERRED
from p2r.formats.values import BadValue
from p2r.records import Question

_LABEL = re.compile(r"\s*\(?[A-Za-z][.):]\s*")


def place_of(question: Question) -> int | None:
    """Return the answer of a multiple-choice question if it is the index of an option.

    A number that is the text of an option is not an index.
    """
    count = len(question.options)
    if question.problem_type != "multiple choice" or count < 2 or count > len(ascii_uppercase):
        return None
    if not re.fullmatch(r"\d{1,2}", answer := question.answer.strip()) or int(answer) > count:
        return None
    texts = {_LABEL.sub("", option, count=1).strip() for option in question.options}
    return None if answer in texts or answer in question.options else int(answer)


def find_base(questions: Iterable[Question]) -> tuple[bool, bool]:
    """Return whether some index must count from 0, and whether some must count from 1."""
    zero = one = False
    for question in questions:
        place = place_of(question)
        zero |= place == 0
        one |= place == len(question.options)
    return zero, one


def as_letter(question: Question, place: int, base: tuple[bool, bool]) -> Question:
    """Return the question with the letter of the option at an index; `base` is from `find_base`.

    Raises BadValue if it is not clear whether the file counts from 0 or from 1.
    """
    zero, one = base
    if zero == one:
        raise BadValue(
            f"the answer {place} may count the options from 0 or from 1: give a letter or the "
            "text of the option"
        )
    note = f"letter of the answer from its index, counted from {int(one)}"
    meta = question.meta | {INFERRED: [*question.meta.get(INFERRED, ()), note]}
    changed = {"answer": ascii_uppercase[place - int(one)], "meta": meta}
    return question.model_copy(update=changed)
