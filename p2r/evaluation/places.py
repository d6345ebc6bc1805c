"""Answers that are indices of options ("0", 3) instead of letters.

`p2r.formats.places` finds out once for the whole file whether it counts from 0 or from 1.
References decide before outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2r.evaluation.benchmark import Fields, Item
from p2r.formats.places import first_index, index_of, letter


def convert_places(found: Sequence[Item | Fields], first: int | None = None) -> str | None:
    """Replace indices by letters, in references and outputs. Return a note, or None.

    `first` is the index of the first option, if it is known. Outputs are converted only if all of
    them are indices. If it is not clear where counting starts, nothing is converted, and the note
    asks for it. The score of an item is then unknown.
    """
    choices = [one for one in found if one.problem_type == "multiple choice"]
    truths = [
        (one, index) for one in choices if (index := index_of(one.truth, one.options)) is not None
    ]
    answered = [one for one in choices if isinstance(one, Item) and one.output.strip()]
    outputs = [
        (item, index)
        for item in answered
        if (index := index_of(item.output, item.options)) is not None
    ]
    if len(outputs) < len(answered):
        outputs = []
    if not truths and not outputs:
        return None
    base = first
    for pairs in (truths, outputs):
        if base is None:
            base = first_index((index, one.options) for one, index in pairs)
    if base is None:
        kind = f"{len(truths)} reference answers" if truths else f"all {len(outputs)} outputs"
        return (
            f"{kind} are numbers: if they are indices of options, give --count-from 0 or "
            "--count-from 1 to p2r eval import, or write letters into the file"
        )
    for one, index in truths:
        one.truth = letter(index, base, one.options) or one.truth
    for item, index in outputs:
        if chosen := letter(index, base, item.options):
            item.stored["place"] = item.output
            item.output = chosen
    for item in answered:
        said = item.stored.get("extraction")
        if said is not None and (index_said := index_of(said, item.options)) is not None:
            item.stored["extraction"] = letter(index_said, base, item.options) or said
    what = " and ".join(["references"] * bool(truths) + ["outputs"] * bool(outputs))
    return f"{what} are indices of options, counted from {base}"
