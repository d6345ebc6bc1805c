"""Answers that are indices of options ("0", 3) instead of letters.

A file counts its options from 0 or from 1. This is found out once for the whole file: an index of 0
means from 0, an index equal to the number of options means from 1. References decide before
outputs. A digit that is the text or the label of an option is not an index.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from p2r.evaluation.benchmark import Fields, Item
from p2r.scoring.answers import option_texts

_PLACE = re.compile(r"\s*(\d{1,2})(?:\.0)?\s*")
_LABEL = re.compile(r"\W*(?:[A-Za-z]+ )?(\d+)\W")


def convert_places(found: Sequence[Item | Fields], first: int | None = None) -> str | None:
    """Replace indices by letters, in references and outputs. Return a note, or None.

    `first` is the index of the first option, if it is known. Outputs are converted only if all of
    them are indices, and if it is known where counting starts.
    """
    choices = [one for one in found if one.problem_type == "multiple choice"]
    truths = [(one, place) for one in choices if (place := _place(one.truth, one)) is not None]
    answered = [one for one in choices if isinstance(one, Item) and one.output.strip()]
    outputs = [(one, place) for one in answered if (place := _place(one.output, one)) is not None]
    if len(outputs) < len(answered):
        outputs = []
    if not truths and not outputs:
        return None
    known = first
    for pairs in (truths, outputs):
        known = _first_place(pairs) if known is None else known
    if known is None and not truths:
        return (
            f"all {len(outputs)} outputs are numbers: if they are indices of options, give "
            "--count-from 0 or --count-from 1"
        )
    base = known or 0
    for one, place in truths:
        one.truth = _letter(place - base, one) or one.truth
    for item, place in outputs:
        if letter := _letter(place - base, item):
            item.stored["place"] = item.output
            item.output = letter
    for item in answered if truths or outputs else ():
        said = item.stored.get("extraction")
        if said is not None and (place := _place(said, item)) is not None:
            item.stored["extraction"] = _letter(place - base, item) or said
    what = " and ".join(["references"] * bool(truths) + ["outputs"] * bool(outputs))
    how = "" if known is not None else ", but no index shows this for certain"
    return f"{what} are indices of options, counted from {base}{how}"


def _place(text: str, one: Item | Fields) -> int | None:
    """Return the index that a text gives; None if the text says something else."""
    match = _PLACE.fullmatch(text)
    if match is None:
        return None
    texts = [option.rstrip(".") for option in option_texts(one.options).values()]
    labels = [label[1] for option in one.options if (label := _LABEL.match(option))]
    return None if match[1] in texts or match[1] in labels else int(match[1])


def _first_place(pairs: Sequence[tuple[Item | Fields, int]]) -> int | None:
    """Return 0 or 1, the index of the first option. None if the indices fit both 0 and 1."""
    if any(place == 0 for _, place in pairs):
        return 0
    return 1 if any(one.options and place == len(one.options) for one, place in pairs) else None


def _letter(index: int, one: Item | Fields) -> str | None:
    known = len(one.options) or len(ascii_uppercase)
    return ascii_uppercase[index] if 0 <= index < known else None
