"""The language of the playground: facts as sentences, questions, and the segments of traces.

One sentence describes one object ("A big red circle moves left and stops at 2 s.") or the sign
("The sign says STOP."). `read_facts` turns such sentences back into facts; the judge in
`p2r.playground.oracle` uses it. A `Habit` says how likely a description contains a sentence that
the question needs, and how likely it contains another sentence.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from p2r.playground.world import COLOURS, MOTIONS, SHAPES, SIZES, TIMES, Scene, SceneObject
from p2r.records import Question


@dataclass(frozen=True)
class Fact:
    """The content of one sentence about one object. It has the fields of `SceneObject`."""

    colour: str
    shape: str
    size: str
    motion: str | None
    event: str | None = None
    time: int | None = None
    detail: str | None = None

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @classmethod
    def of(cls, obj: SceneObject) -> Fact:
        return cls(obj.colour, obj.shape, obj.size, obj.motion, obj.event, obj.time, obj.detail)


@dataclass(frozen=True)
class Facts:
    """All known facts about a scene. `consistent` is False if sentences contradict each other."""

    objects: tuple[Fact, ...] = ()
    sign: str | None = None
    consistent: bool = True

    @classmethod
    def of(cls, scene: Scene) -> Facts:
        return cls(tuple(Fact.of(obj) for obj in scene.objects), scene.sign)

    def named(self, name: str) -> Fact | None:
        return next((fact for fact in self.objects if fact.name == name), None)


def tell_event(fact: Fact, time: bool = True) -> str:
    """Return for example "stops at 2 s", "turns blue at 1 s" or "hits the blue square at 3 s"."""
    detail = {"turns": f" {fact.detail}", "hits": f" the {fact.detail}"}.get(fact.event or "", "")
    return f"{fact.event}{detail}" + (f" at {fact.time} s" if time else "")


def tell_motion(fact: Fact) -> str:
    return f"moves {fact.motion}" if fact.motion else "stays still"


def tell(fact: Fact) -> str:
    """Return the sentence that describes an object."""
    event = f" and {tell_event(fact)}" if fact.event else ""
    return f"A {fact.size} {fact.colour} {fact.shape} {tell_motion(fact)}{event}."


def tell_sign(sign: str) -> str:
    return f"The sign says {sign}."


_COLOUR, _SHAPE = "|".join(COLOURS), "|".join(SHAPES)
_SENTENCE = re.compile(
    rf"\bA (?P<size>{'|'.join(SIZES)}) (?P<colour>{_COLOUR}) (?P<shape>{_SHAPE})"
    rf" (?:stays still|moves (?P<motion>{'|'.join(MOTIONS)}))"
    rf"(?: and (?P<event>appears|vanishes|stops|turns|hits)"
    rf"(?: (?:the )?(?P<detail>(?:{_COLOUR})(?: (?:{_SHAPE}))?))?"
    rf" at (?P<time>{'|'.join(map(str, TIMES))}) s)?\."
)
_SIGN = re.compile(r"\bThe sign says ([A-Z]{2,4})\.")


def read_facts(text: str) -> Facts:
    """Return the facts of an observation. Text that is not such a sentence is ignored."""
    objects: dict[str, Fact] = {}
    consistent = True
    for match in _SENTENCE.finditer(text):
        parts: dict[str, Any] = match.groupdict()
        parts["time"] = int(parts["time"]) if parts["time"] else None
        fact = Fact(**parts)
        consistent &= objects.setdefault(fact.name, fact) == fact
    signs = set(_SIGN.findall(text))
    sign = next(iter(signs)) if len(signs) == 1 else None
    return Facts(tuple(objects.values()), sign, consistent and len(signs) < 2)


class SceneQuestion(NamedTuple):
    """A question about a scene, with the parts of a trace that answers it.

    `notice`: what the trace says it must notice. `needs`: the names of the objects (or "sign") that
    an answer needs. `reason`: the reasoning that leads to the answer.
    """

    problem: str
    problem_type: str
    answer: str
    options: list[str]
    notice: str
    needs: frozenset[str]
    reason: str


def to_question(asked: SceneQuestion, **fields: Any) -> Question:
    """Return the record of a question. `fields` are its other fields, such as `id` and `path`."""
    return Question(
        **{"id": "", **fields},
        problem=asked.problem,
        options=asked.options,
        problem_type=asked.problem_type,
        answer=asked.answer,
    )


LETTERS = "ABCD"


def _about(facts: Sequence[Fact]) -> tuple[str, frozenset[str]]:
    """Return what a trace must notice, and the needed names, for a question about some objects."""
    return " and ".join(f"the {fact.name}" for fact in facts), frozenset(f.name for f in facts)


def _choose(
    rng: random.Random,
    problem: str,
    right: str,
    wrong: Sequence[str],
    notice: str,
    needs: frozenset[str],
    reason: str,
) -> SceneQuestion:
    """Return a multiple-choice question: the right option and up to three wrong ones, shuffled."""
    wrong = [text for text in wrong if text != right]
    texts = [right, *rng.sample(wrong, min(3, len(wrong)))]
    rng.shuffle(texts)
    letter = LETTERS[texts.index(right)]
    options = [f"{a}. {text}" for a, text in zip(LETTERS, texts, strict=False)]
    reason = f"{reason} That is option {letter}."
    return SceneQuestion(problem, "multiple choice", letter, options, notice, needs, reason)


def _direction(rng: random.Random, facts: Facts) -> SceneQuestion:
    fact = rng.choice(facts.objects)
    right = fact.motion or "it stays still"
    problem = f"Which way does the {fact.name} move?"
    reason = f"the {fact.name} {tell_motion(fact)}."
    return _choose(rng, problem, right, [*MOTIONS, "it stays still"], *_about([fact]), reason)


def _happening(rng: random.Random, facts: Facts) -> SceneQuestion | None:
    fact = rng.choice([f for f in facts.objects if f.event] or [None])
    if fact is None:
        return None
    problem = f"What happens to the {fact.name}?"
    wrong = ["it appears", "it vanishes", "it stops"]
    wrong += [f"it turns {rng.choice([c for c in COLOURS if c != fact.detail])}"]
    right = f"it {tell_event(fact, time=False)}"
    reason = f"the {fact.name} {tell_event(fact)}."
    return _choose(rng, problem, right, wrong, *_about([fact]), reason)


def _order(rng: random.Random, facts: Facts) -> SceneQuestion | None:
    timed = [f for f in facts.objects if f.event]
    if len(timed) != 2:
        return None
    rng.shuffle(timed)
    first, second = sorted(timed, key=lambda f: f.time or 0)
    texts = [f"the {f.name} {tell_event(f, time=False)}" for f in (first, second)]
    told = " and ".join(f"the {f.name} {tell_event(f)}" for f in timed)
    reason = f"{told}, so the {first.name} is first."
    return _choose(rng, "Which happens first?", texts[0], texts[1:], *_about(timed), reason)


def _bigger(rng: random.Random, facts: Facts) -> SceneQuestion | None:
    if len(facts.objects) < 2:
        return None
    a, b = rng.sample(facts.objects, 2)
    bigger = a if a.size == "big" else b
    right = "they are equal" if a.size == b.size else f"the {bigger.name}"
    texts = [f"the {a.name}", f"the {b.name}", "they are equal"]
    reason = f"the {a.name} is {a.size} and the {b.name} is {b.size}."
    problem = f"Which is bigger, the {a.name} or the {b.name}?"
    return _choose(rng, problem, right, texts, *_about([a, b]), reason)


def _colour(rng: random.Random, facts: Facts) -> SceneQuestion | None:
    moving = [f for f in facts.objects if f.motion]
    unique = [f for f in moving if sum(o.motion == f.motion for o in moving) == 1]
    if not unique:
        return None
    fact = rng.choice(unique)
    who = f"the object that moves {fact.motion}"
    wrong = [colour for colour in COLOURS if colour not in (fact.colour, fact.detail)]
    problem = f"What colour does {who} have at first?"
    needs = frozenset({fact.name})
    return _choose(rng, problem, fact.colour, wrong, who, needs, f"{who} is {fact.colour}.")


def _has(part: str, value: str) -> Callable[[Fact], bool]:
    return lambda fact: getattr(fact, part) == value


# Things to count: the words of the question, and the test of an object. An object is counted with
# its motion, size and colour at the start of the scene. An object that appears later counts too.
COUNTED: dict[str, Callable[[Fact], bool]] = {
    "objects are there": lambda fact: True,
    "objects move": lambda fact: fact.motion is not None,
    "objects stay still": lambda fact: fact.motion is None,
    **{f"{size} objects are there": _has("size", size) for size in SIZES},
    **{f"{shape}s are there": _has("shape", shape) for shape in SHAPES},
}


def _count(rng: random.Random, facts: Facts) -> SceneQuestion | None:
    what = rng.choice(list(COUNTED))
    found = [fact for fact in facts.objects if COUNTED[what](fact)]
    if not found and rng.random() < 0.75:  # a count of 0 is easy to guess: keep it rare
        return None
    names = ", ".join(f"the {fact.name}" for fact in found) or "none"
    plural = what.removesuffix(" are there").replace("objects move", "objects that move")
    plural = plural.replace("objects stay", "objects that stay")
    reason = f"{names}. The count is {len(found)}."
    problem, notice, needs = f"How many {what}?", f"all {plural}", _about(found)[1]
    return SceneQuestion(problem, "numerical", str(len(found)), [], notice, needs, reason)


def _sign(rng: random.Random, facts: Facts) -> SceneQuestion | None:
    if facts.sign is None:
        return None
    problem, reason = "What does the sign say?", f"the sign says {facts.sign}."
    needs = frozenset({"sign"})
    return SceneQuestion(problem, "OCR", facts.sign, [], "the sign", needs, reason)


def _behaviour(rng: random.Random, facts: Facts) -> SceneQuestion:
    fact = rng.choice([f for f in facts.objects if f.event] or list(facts.objects))
    event = f" and {tell_event(fact, time=False)}" if fact.event else ""
    does = f"{tell_motion(fact)}{event}."
    problem, reason = f"What does the {fact.name} do?", f"the {fact.name} {does}"
    return SceneQuestion(problem, "free-form", f"It {does}", [], *_about([fact]), reason)


VERBS = {"appears": "appear", "vanishes": "vanish", "stops": "stop", "turns": "turn", "hits": "hit"}


def ask_event(fact: Fact) -> str:
    """Return an event in the words of a question, for example "stop" or "turn blue"."""
    verb, space, rest = tell_event(fact, time=False).partition(" ")
    return f"{VERBS[verb]}{space}{rest}"


def _seconds(rng: random.Random, facts: Facts) -> SceneQuestion | None:
    fact = rng.choice([f for f in facts.objects if f.event] or [None])
    if fact is None:
        return None
    problem = f"After how many seconds does the {fact.name} {ask_event(fact)}?"
    reason = f"the {fact.name} {tell_event(fact)}."
    return SceneQuestion(problem, "regression", str(fact.time), [], *_about([fact]), reason)


_KINDS = {
    _direction: 2,
    _happening: 1,
    _order: 2,
    _bigger: 1.5,
    _colour: 1.5,
    _count: 3.5,
    _sign: 2,
    _behaviour: 1.5,
    _seconds: 1.5,
}


def ask(scene: Scene, rng: random.Random) -> SceneQuestion:
    """Return one question about the scene. Its kind is drawn by weight among the possible kinds."""
    facts = Facts.of(scene)
    while True:
        (kind,) = rng.choices(list(_KINDS), list(_KINDS.values()))
        asked = kind(rng, facts)
        if asked is not None:
            return asked


class Habit(NamedTuple):
    """The probabilities that a description contains a needed and a needless sentence."""

    needed: float
    needless: float


COMPLETE = Habit(1.0, 1.0)
TARGETED = Habit(1.0, 0.0)


def describe(scene: Scene, rng: random.Random, habit: Habit, needs: frozenset[str]) -> str:
    """Return sentences about the scene in its order, chosen by the habit; at least one."""
    sentences = [(obj.name, tell(Fact.of(obj))) for obj in scene.objects]
    if scene.sign:
        sentences.append(("sign", tell_sign(scene.sign)))
    told = [
        sentence
        for name, sentence in sentences
        if rng.random() < (habit.needed if name in needs else habit.needless)
    ]
    return " ".join(told or [rng.choice(sentences)[1]])


def observe(scene: Scene, asked: SceneQuestion, rng: random.Random, habit: Habit) -> str:
    """Return the observation segment of a trace."""
    seen = describe(scene, rng, habit, asked.needs)
    return f"Based on the question, I need to notice {asked.notice}. {seen}"


def think(asked: SceneQuestion) -> str:
    """Return the think segment of a trace."""
    return f"Based on the observations, {asked.reason}"
