"""Reads the answers of questions from notes.

One function for each kind of question (`p2r.playground.second.questions`). It gets the notes and
the arguments of the question, and returns the answer with the facts that it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from p2r.playground.second.language import UNSEEN, Fact, Notes


class MissingFact(Exception):
    """The notes lack a needed fact. `used` are the facts that were found before.

    `unseen`: the notes say that the fact cannot be seen.
    """

    def __init__(self, what: str, used: Sequence[Fact] = (), unseen: bool = False) -> None:
        super().__init__(what)
        self.used = tuple(used)
        self.unseen = unseen


class Solution(NamedTuple):
    """An answer in words, and the facts it comes from, in the order in which they are read."""

    value: str
    used: tuple[Fact | str, ...]


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


def _only(notes: Notes, what: str, found: Sequence[Fact], used: Sequence[Fact] = ()) -> Fact:
    if len(found) != 1:
        raise MissingFact(f"{'More than one' if found else 'No'} {what} is described.", used)
    return _read(notes, found[0].name, used)


def _mover(notes: Notes, way: str) -> Fact:
    found = [fact for fact in notes.objects if fact.motion == f"moves {way}"]
    return _only(notes, f"object that moves {way}", found)


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
    fact = _mover(notes, way)
    return Solution(_part(fact, "time"), (fact,))


def read_mover_colour(notes: Notes, way: str) -> Solution:
    """Answer the colour of the object that moves in a direction."""
    fact = _mover(notes, way)
    return Solution(fact.colour, (fact,))


def read_changer_motion(notes: Notes, time: str) -> Solution:
    """Answer how the object with an event at a time moves."""
    found = [fact for fact in notes.objects if str(fact.time) == time]
    fact = _only(notes, f"object with an event at {time} s", found)
    return Solution(_part(fact, "motion"), (fact,))


def read_comparison(notes: Notes, a: str, b: str) -> Solution:
    """Answer whether two named objects have the same size and the same motion."""
    one = _read(notes, a)
    two = _read(notes, b, (one,))
    for fact, used in ((one, ()), (two, (one,))):
        for part in ("size", "motion"):
            _part(fact, part, used)
    return Solution(compare(one, two), (one, two))


def compare(one: Fact, two: Fact) -> str:
    """Return the comparison of two facts in words."""
    size = "same" if one.size == two.size else "other"
    motion = "same" if one.motion == two.motion else "other"
    return f"{size} size, {motion} motion"


def read_partner(notes: Notes, name: str) -> Solution:
    """Answer how the object moves that has its event together with a named one."""
    one = _read(notes, name)
    time = _part(one, "time")
    found = [fact for fact in notes.objects if str(fact.time) == time and fact.name != name]
    two = _only(notes, f"other object with an event at {time} s", found, (one,))
    return Solution(_part(two, "motion", (one,)), (one, two))


def read_chain(notes: Notes, name: str) -> Solution:
    """Answer the colour of the object that a named one hits."""
    one = _read(notes, name)
    shape = one.hit
    if shape is None:
        _part(one, "event")
        raise MissingFact("It hits no object.", (one,))
    found = [fact for fact in notes.objects if fact.shape == shape]
    two = _only(notes, shape, found, (one,))
    return Solution(two.colour, (one, two))
