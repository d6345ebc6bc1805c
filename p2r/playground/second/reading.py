"""Reads the answers of questions from notes.

One function for each kind of question (`p2r.playground.second.questions`). It gets the notes and
the arguments of the question, and returns the answer with the facts that it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from p2r.playground.second.language import UNSEEN, Fact, Notes

COMPARISONS = ("both", "size only", "motion only", "nothing")


class MissingFact(Exception):
    """The notes lack a needed fact. `used` are the facts that were read before.

    `unseen`: the notes say that the fact cannot be seen.
    """

    def __init__(self, what: str, used: Sequence[Fact | str] = (), unseen: bool = False) -> None:
        super().__init__(what)
        self.used = tuple(used)
        self.unseen = unseen


class Solution(NamedTuple):
    """An answer in words, and the facts it comes from.

    `read`: the facts whose sentences the thinking repeats (default: `used`). `remark`: a conclusion
    from the facts, said before the answer.
    """

    value: str
    used: tuple[Fact | str, ...]
    read: tuple[Fact, ...] = ()
    remark: str = ""


def _read(notes: Notes, name: str, used: Sequence[Fact] = ()) -> Fact:
    fact = notes.named(name)
    if fact is None:
        raise MissingFact(f"The {name} is not described.", used)
    if name in notes.unclear:
        raise MissingFact(f"The {name} is described in two ways.", used)
    return fact


def _part(fact: Fact, part: str, used: Sequence[Fact] = ()) -> str:
    """Return a part of a fact in words: "size", "motion", "event" or "time"."""
    value = getattr(fact, part)
    if value is None:
        raise MissingFact(f"Its {part} is not told.", (*used, fact))
    if value == UNSEEN:
        raise MissingFact("", (*used, fact), unseen=True)
    return str(value)


def _search(notes: Notes, what: str, fits: Callable[[Fact], bool]) -> tuple[Fact, ...]:
    """Read the notes in order until a fact fits. Return the facts that were read.

    Tiny models cannot find a sentence by its last words. They can repeat the notes and stop at the
    sentence that fits.
    """
    read: tuple[Fact, ...] = ()
    for fact in notes.objects:
        if fits(fact):
            return (*read, _read(notes, fact.name, read))
        read = (*read, fact)
    raise MissingFact(f"No {what} is described.", read)


def _mover(notes: Notes, way: str) -> tuple[Fact, ...]:
    motion = f"moves {way}"
    return _search(notes, f"object that {motion}", lambda fact: fact.motion == motion)


def read_part(part: str, notes: Notes, name: str) -> Solution:
    """Answer "motion", "event" or "time" of a named object."""
    fact = _read(notes, name)
    return Solution(_part(fact, part), (fact,))


def read_sign(notes: Notes) -> Solution:
    """Answer what the sign says."""
    if notes.sign is None:
        raise MissingFact("The sign is not described.")
    if "sign" in notes.unclear:
        raise MissingFact("The sign is described in two ways.")
    return Solution(notes.sign, (notes.sign,))


def read_mover_time(notes: Notes, way: str) -> Solution:
    """Answer when the object that moves in a direction has its event."""
    *before, fact = read = _mover(notes, way)
    return Solution(_part(fact, "time", before), (fact,), read)


def read_mover_colour(notes: Notes, way: str) -> Solution:
    """Answer the colour of the object that moves in a direction."""
    read = _mover(notes, way)
    return Solution(read[-1].colour, read[-1:], read)


def read_changer_motion(notes: Notes, time: str) -> Solution:
    """Answer how the object with an event at a time moves."""
    what = f"object with an event at {time} s"
    *before, fact = read = _search(notes, what, lambda fact: str(fact.time) == time)
    return Solution(_part(fact, "motion", before), (fact,), read)


def read_comparison(notes: Notes, a: str, b: str) -> Solution:
    """Answer in what two named objects are alike: size, motion, both or nothing."""
    one = _read(notes, a)
    two = _read(notes, b, (one,))
    for fact, used in ((one, ()), (two, (one,))):
        for part in ("size", "motion"):
            _part(fact, part, used)
    size = "same" if one.size == two.size else "other"
    motion = "same" if one.motion == two.motion else "other"
    remark = (
        f"They are {one.size} and {two.size}: {size} size; "
        f"{one.motion} and {two.motion}: {motion} motion."
    )
    return Solution(compare(one, two), (one, two), remark=remark)


def compare(one: Fact, two: Fact) -> str:
    """Return in what two facts are alike: one of `COMPARISONS`."""
    if one.size == two.size:
        return "both" if one.motion == two.motion else "size only"
    return "motion only" if one.motion == two.motion else "nothing"


def read_chain(notes: Notes, name: str) -> Solution:
    """Answer the colour of the object that a named one hits."""
    one = _read(notes, name)
    shape = one.hit
    if shape is None:
        _part(one, "event")
        raise MissingFact("It hits no object.", (one,))
    found = [fact for fact in notes.objects if fact.shape == shape and fact is not one]
    if not found:
        raise MissingFact(f"No {shape} is described.", (one,))
    two = _read(notes, found[0].name, (one,))
    return Solution(two.colour, (one, two), (one,), f"The {shape} is {two.colour}.")
