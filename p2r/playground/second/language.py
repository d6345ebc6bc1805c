"""The sentences of the second world: notes about a scene, told and read.

One sentence describes one object, always in the same order: name, size, motion, event, time.

    The red circle is big, moves left, stops at 2 s.
    The blue ring is small, stays still, no event.

So a reader finds a name and copies the words after it. A vague sentence ends early ("The red circle
is big."). Other sentences are "The red circle cannot be seen.", "The sign says STOP." and, if the
video is dark when an event could happen, "The red circle is big, moves left, event unseen."

A text of such sentences is a note. `read_notes` turns it back into facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from p2r.playground.second.chapters import AnyScene
from p2r.playground.second.words import COLOURS, MOTIONS, SHAPES, SIZES, TIMES
from p2r.playground.second.world import SceneObject

STILL = "stays still"
MOTION_WORDS = (*(f"moves {way}" for way in MOTIONS), STILL)
NO_EVENT = "no event"
UNSEEN = "event unseen"  # the video is dark when the event could happen


@dataclass(frozen=True)
class Fact:
    """The content of one sentence about an object, in the words of the sentence.

    A part that is not told is None. `event` has no time: "turns blue", "hits the ring", "no event".
    `seen` is False for "cannot be seen".
    """

    colour: str
    shape: str
    size: str | None = None
    motion: str | None = None
    event: str | None = None
    time: int | None = None
    seen: bool = True

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @classmethod
    def of(cls, obj: SceneObject) -> Fact:
        """Return everything that can be said about an object."""
        motion = f"moves {obj.motion}" if obj.motion else STILL
        detail = {"turns": f" {obj.detail}", "hits": f" the {obj.detail}"}.get(obj.event or "", "")
        event = f"{obj.event}{detail}" if obj.event else NO_EVENT
        return cls(obj.colour, obj.shape, obj.size, motion, event, obj.time)

    @property
    def hit(self) -> str | None:
        """The shape that the object hits."""
        return self.event[9:] if self.event and self.event.startswith("hits the ") else None


@dataclass(frozen=True)
class Notes:
    """The facts of a text, or of a scene. `unclear` names what the text tells in two ways."""

    objects: tuple[Fact, ...] = ()
    sign: str | None = None
    unclear: frozenset[str] = frozenset()

    @classmethod
    def of(cls, scene: AnyScene) -> Notes:
        """Return the facts of a scene that can be seen."""
        shown = [Fact.of(obj) for obj in scene.objects if obj.name not in scene.hidden]
        dark = scene.dark_from
        if dark is not None:
            shown = [
                fact if fact.time and fact.time < dark else replace(fact, event=UNSEEN, time=None)
                for fact in shown
            ]
        return cls(tuple(shown), scene.sign)

    def named(self, name: str) -> Fact | None:
        return next((fact for fact in self.objects if fact.name == name), None)

    def by_name(self) -> dict[str, Fact | str]:
        """Return the facts by the name of the object, and the text of the sign by "sign"."""
        signs = {"sign": self.sign} if self.sign else {}
        return {fact.name: fact for fact in self.objects} | signs


def tell(fact: Fact) -> str:
    """Return the sentence of a fact. It ends before the first part that is not told."""
    if not fact.seen:
        return f"The {fact.name} cannot be seen."
    parts = [fact.size, fact.motion, fact.event]
    if fact.event and fact.time:
        parts[2] = f"{fact.event} at {fact.time} s"
    told = parts[: parts.index(None)] if None in parts else parts
    return f"The {fact.name} is {', '.join(part or '' for part in told) or 'there'}."


def describe_fact(fact: Fact | str) -> str:
    """Return the sentence of a fact, or of the text of a sign."""
    return tell_sign(fact) if isinstance(fact, str) else tell(fact)


def tell_sign(sign: str) -> str:
    return f"The sign says {sign}."


def sentences_of(scene: AnyScene) -> dict[str, str]:
    """Return all true sentences about a scene, by the name of the object or "sign"."""
    return {name: describe_fact(fact) for name, fact in Notes.of(scene).by_name().items()}


_COLOUR, _SHAPE = "|".join(COLOURS), "|".join(SHAPES)
_EVENT = rf"appears|vanishes|stops|turns (?:{_COLOUR})|hits the (?:{_SHAPE})"
_SENTENCE = re.compile(
    rf"\bThe (?P<colour>{_COLOUR}) (?P<shape>{_SHAPE}) (?:(?P<unseen>cannot be seen)|is there|"
    rf"is (?P<size>{'|'.join(SIZES)})(?:, (?P<motion>{'|'.join(MOTION_WORDS)})"
    rf"(?:, (?:(?P<none>{NO_EVENT}|{UNSEEN})|"
    rf"(?P<event>{_EVENT}) at (?P<time>{'|'.join(map(str, TIMES))}) s))?)?)\."
)
_SIGN = re.compile(r"\bThe sign says (?P<sign>[A-Z]{2,4})\.")


def read_sentence(text: str) -> Fact | str | None:
    """Return the fact of one sentence, the text of a sign, or None if it cannot be read."""
    if match := _SIGN.fullmatch(text):
        return match["sign"]
    match = _SENTENCE.fullmatch(text)
    return _to_fact(match) if match else None


def _to_fact(match: re.Match[str]) -> Fact:
    parts = match.groupdict()
    return Fact(
        colour=parts["colour"],
        shape=parts["shape"],
        size=parts["size"],
        motion=parts["motion"],
        event=parts["event"] or parts["none"],
        time=int(parts["time"]) if parts["time"] else None,
        seen=not parts["unseen"],
    )


def read_notes(text: str) -> Notes:
    """Return the facts of a text. Other sentences are ignored.

    If a name is told twice, the longer sentence counts. If they contradict each other, the name is
    unclear.
    """
    facts: dict[str, Fact] = {}
    unclear = set()
    for match in _SENTENCE.finditer(text):
        fact = _to_fact(match)
        before = facts.setdefault(fact.name, fact)
        if agrees(before, fact):
            facts[fact.name] = fact
        elif not agrees(fact, before):
            unclear.add(fact.name)
    signs = set(_SIGN.findall(text))
    if len(signs) > 1:
        unclear.add("sign")
    return Notes(tuple(facts.values()), min(signs, default=None), frozenset(unclear))


def agrees(told: Fact, true: Fact) -> bool:
    """Return whether every part that is told is true."""
    if told.name != true.name or told.seen != true.seen:
        return False
    pairs = [(told.size, true.size), (told.motion, true.motion), (told.event, true.event)]
    if told.event is not None and told.time not in (None, true.time):
        return False
    return all(part is None or part == other for part, other in pairs)


def join_names(names: Iterable[str]) -> str:
    """Return "the red circle and the blue ring"."""
    return " and ".join(f"the {name}" for name in names)
