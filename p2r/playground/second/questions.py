"""Questions of the second world, and their answers from notes.

A `Kind` asks about facts that only one or two sentences hold. `draw` chooses the right answer
first, every answer with the same probability; then a scene is drawn that has it. So a reader
without the needed sentences is right with the probability 1 / (number of possible answers):

- Motions, sizes and times are independent, so other sentences say nothing about them. A colour
  occurs once in a scene, so for `mover colour` and `chain` other sentences rule some colours out:
  a guess is right in about one of five cases, and `chance` says one of eight.
- Questions that describe an object ("the object that moves left") ask for another part of its
  sentence. No object can be ruled out by reading about others.
- No question asks for a count.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from p2r.playground.second.language import (
    MOTION_WORDS,
    NO_EVENT,
    STILL,
    Fact,
    Notes,
)
from p2r.playground.second.reading import (
    COMPARISONS,
    MissingFact,
    Solution,
    compare,
    read_chain,
    read_changer_motion,
    read_comparison,
    read_mover_colour,
    read_mover_time,
    read_part,
    read_sign,
)
from p2r.playground.second.words import EVENTS, SEEN, TIMES, Domain
from p2r.playground.second.world import Scene, sample_scene
from p2r.records import Question

LETTERS = "ABCD"
CANNOT_TELL = "cannot tell"


class SceneQuestion(NamedTuple):
    """A question about a scene.

    `needs`: the names of the objects (or "sign") whose sentences an answer needs. `value`: the
    right answer in words, without its letter.
    """

    kind: str
    problem: str
    problem_type: str
    answer: str
    options: list[str]
    needs: tuple[str, ...]
    value: str


def to_question(asked: SceneQuestion, **fields: Any) -> Question:
    """Return the record of a question. `fields` are its other fields, such as `id` and `path`."""
    return Question(
        **{"id": "", **fields},
        problem=asked.problem,
        options=asked.options,
        problem_type=asked.problem_type,
        answer=asked.answer,
    )


class Kind(NamedTuple):
    """One kind of question.

    `form`: the problem; its pairs of braces are the arguments. `draw` returns what a scene must
    have. `find` returns the arguments for a scene that has it, else None. `solve` answers from
    notes, or raises `MissingFact`. `pool`: the possible answers. `notice`: what a trace looks for.
    """

    form: str
    problem_type: str
    draw: Callable[[random.Random, Domain], Any]
    find: Callable[[Notes, random.Random, Any], tuple[str, ...] | None]
    solve: Callable[..., Solution]
    pool: Callable[[Domain], Sequence[str]]
    notice: str


# ---- finding the arguments in a scene


def _not_hit(notes: Notes) -> list[Fact]:
    """Return the objects that no other object hits: "hits the ring" says that the ring is still."""
    hit = {fact.hit for fact in notes.objects}
    return [fact for fact in notes.objects if fact.shape not in hit]


def _movers(notes: Notes) -> list[Fact]:
    """Return the objects that move in a direction in which no other object moves."""
    motions = [fact.motion for fact in notes.objects]
    return [f for f in notes.objects if f.motion != STILL and motions.count(f.motion) == 1]


def _pick(
    rng: random.Random, found: Sequence[Fact], wanted: Callable[[Fact], bool], part: str = "name"
) -> tuple[str, ...] | None:
    """Return a part of a random object, or None if the object is not as wanted.

    The object is chosen before its answer is looked at. If it was chosen among the objects with the
    wanted answer, the other objects would have this answer less often: a hint to the answer.
    """
    fact = rng.choice(found) if found else None
    if fact is None or not wanted(fact):
        return None
    return (str(getattr(fact, part)).removeprefix("moves "),)


def _with_motion(notes: Notes, rng: random.Random, motion: str) -> tuple[str, ...] | None:
    return _pick(rng, _not_hit(notes), lambda fact: fact.motion == motion)


def _with_event(notes: Notes, rng: random.Random, event: str) -> tuple[str, ...] | None:
    """Return a moving object with the event. Another object must be there that it could hit."""

    def wanted(fact: Fact) -> bool:
        return str(fact.event).startswith(event) and bool(_targets(notes, fact.name))

    return _pick(rng, [fact for fact in notes.objects if fact.motion != STILL], wanted)


def _targets(notes: Notes, name: str) -> list[str]:
    """Return the shapes that an object could hit."""
    return [
        fact.shape
        for fact in notes.objects
        if fact.motion == STILL and fact.event == NO_EVENT and fact.name != name
    ]


def _with_time(notes: Notes, rng: random.Random, time: int) -> tuple[str, ...] | None:
    return _pick(rng, [f for f in notes.objects if f.time], lambda fact: fact.time == time)


def _with_sign(notes: Notes, rng: random.Random, wanted: None) -> tuple[str, ...] | None:
    return () if notes.sign else None


def _mover_with_time(notes: Notes, rng: random.Random, time: int) -> tuple[str, ...] | None:
    movers = [fact for fact in _movers(notes) if fact.time]
    return _pick(rng, movers, lambda fact: fact.time == time, "motion")


def _any_mover(notes: Notes, rng: random.Random, wanted: None) -> tuple[str, ...] | None:
    return _pick(rng, _movers(notes), lambda fact: True, "motion")


def _changer_with_motion(notes: Notes, rng: random.Random, motion: str) -> tuple[str, ...] | None:
    times = [fact.time for fact in notes.objects]
    found = [fact for fact in notes.objects if fact.time and times.count(fact.time) == 1]
    return _pick(rng, found, lambda fact: fact.motion == motion, "time")


def _pair(notes: Notes, rng: random.Random, wanted: str) -> tuple[str, ...] | None:
    pair = rng.sample(notes.objects, 2) if len(notes.objects) > 1 else []
    if not pair or not all(fact in _not_hit(notes) for fact in pair):
        return None
    return (pair[0].name, pair[1].name) if compare(*pair) == wanted else None


def _hitter(notes: Notes, rng: random.Random, wanted: None) -> tuple[str, ...] | None:
    return _pick(rng, [fact for fact in notes.objects if fact.hit], lambda fact: True)


# ---- the kinds


def _draw_motion(rng: random.Random, domain: Domain) -> str:
    return rng.choice(MOTION_WORDS)


def _draw_event(rng: random.Random, domain: Domain) -> str:
    return rng.choice((*EVENTS, NO_EVENT))


def _draw_time(rng: random.Random, domain: Domain) -> int:
    return rng.choice(TIMES)


def _draw_nothing(rng: random.Random, domain: Domain) -> None:
    """Colours and signs are equally likely in every scene."""


def _draw_comparison(rng: random.Random, domain: Domain) -> str:
    return rng.choice(COMPARISONS)


def _motions(domain: Domain) -> Sequence[str]:
    return MOTION_WORDS


def _times(domain: Domain) -> Sequence[str]:
    return tuple(map(str, TIMES))


def _colours(domain: Domain) -> Sequence[str]:
    return tuple(domain.colours)


def _signs(domain: Domain) -> Sequence[str]:
    return domain.signs


_CHOICE = "multiple choice"
KINDS: dict[str, Kind] = {
    "motion": Kind(
        "How does the {} move?",
        *(_CHOICE, _draw_motion, _with_motion, partial(read_part, "motion"), _motions),
        notice="the {}",
    ),
    "event": Kind(
        "What is the event of the {}?",
        *(_CHOICE, _draw_event, _with_event, partial(read_part, "event"), lambda domain: ()),
        notice="the {}",
    ),
    "when": Kind(
        "At which second is the event of the {}?",
        *("numerical", _draw_time, _with_time, partial(read_part, "time"), _times),
        notice="the {}",
    ),
    "sign": Kind(
        "What does the sign say?",
        *("OCR", _draw_nothing, _with_sign, read_sign, _signs),
        notice="the sign",
    ),
    "mover time": Kind(
        "At which second is the event of the object that moves {}?",
        *("regression", _draw_time, _mover_with_time, read_mover_time, _times),
        notice="the object that moves {}",
    ),
    "mover colour": Kind(
        "What colour is the object that moves {}?",
        *("free-form", _draw_nothing, _any_mover, read_mover_colour, _colours),
        notice="the object that moves {}",
    ),
    "changer motion": Kind(
        "How does the object with the event at {} s move?",
        *(_CHOICE, _draw_motion, _changer_with_motion, read_changer_motion, _motions),
        notice="the object with the event at {} s",
    ),
    "compare": Kind(
        "In what are the {} and the {} alike?",
        *(_CHOICE, _draw_comparison, _pair, read_comparison, lambda domain: COMPARISONS),
        notice="the {} and the {}",
    ),
    "chain": Kind(
        "What colour is the object that the {} hits?",
        *("free-form", _draw_nothing, _hitter, read_chain, _colours),
        notice="the {} and the object that it hits",
    ),
}
_PATTERNS = {
    name: re.compile(re.escape(kind.form).replace(r"\{\}", r"(\w+(?: \w+)?)"))
    for name, kind in KINDS.items()
}


def kind_of(problem: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the kind of a problem and its arguments; None if it is not of this world.

    Text before the problem (a note) is ignored.
    """
    for name, pattern in _PATTERNS.items():
        match = pattern.search(problem)
        if match and match.end() == len(problem):
            return name, match.groups()
    return None


def solve(problem: str, notes: Notes) -> Solution:
    """Return the answer that follows from notes alone; raise `MissingFact` if a fact is missing."""
    found = kind_of(problem)
    if found is None:
        raise MissingFact("The question is not one of the playground.")
    kind, arguments = found
    for fact in map(notes.named, arguments):
        if fact is not None and not fact.seen:
            raise MissingFact("", (fact,), unseen=True)
    return KINDS[kind].solve(notes, *arguments)


def notice(problem: str) -> str:
    """Return the first sentence of an observation: what the question makes a reader look for."""
    found = kind_of(problem)
    what = KINDS[found[0]].notice.format(*found[1]) if found else "everything"
    return f"Based on the question, I need to notice {what}."


def chance(question: Question) -> float | None:
    """Return the probability of a right guess; None if the question is not of this world."""
    found = kind_of(question.problem)
    if found is None:
        return None
    return 1 / (len(question.options) or len(KINDS[found[0]].pool(SEEN)))


def ask_kind(
    notes: Notes, rng: random.Random, kind: str, wanted: Any, domain: Domain = SEEN
) -> SceneQuestion | None:
    """Return a question of a kind about the facts of a scene; None if they lack what is wanted."""
    chosen = KINDS[kind]
    arguments = chosen.find(notes, rng, wanted)
    if arguments is None:
        return None
    solution = chosen.solve(notes, *arguments)
    options: list[str] = []
    answer = solution.value
    if chosen.problem_type == _CHOICE:
        pool = chosen.pool(domain) or _event_pool(notes, rng, arguments[0], domain)
        wrong = [text for text in pool if text != solution.value]
        if kind == "event":  # one option for each type of event
            wrong = [text for text in pool if text.split()[0] != solution.value.split()[0]]
        options, answer = letter_options(rng, solution.value, rng.sample(wrong, 3))
    return SceneQuestion(
        kind=kind,
        problem=chosen.form.format(*arguments),
        problem_type=chosen.problem_type,
        answer=answer,
        options=options,
        needs=tuple("sign" if isinstance(f, str) else f.name for f in solution.used),
        value=solution.value,
    )


def _event_pool(notes: Notes, rng: random.Random, name: str, domain: Domain) -> list[str]:
    """Return one possible event of each type. Notes about other objects rule none of them out."""
    used = {fact.colour for fact in notes.objects}
    turned = rng.choice([colour for colour in domain.colours if colour not in used])
    hit = rng.choice(_targets(notes, name))
    return ["appears", "vanishes", "stops", f"turns {turned}", f"hits the {hit}", NO_EVENT]


def letter_options(rng: random.Random, right: str, wrong: Sequence[str]) -> tuple[list[str], str]:
    """Return the options in random order, each with a letter, and the letter of the right one."""
    texts = [right, *wrong]
    rng.shuffle(texts)
    options = [f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False)]
    return options, LETTERS[texts.index(right)]


def make_asked(
    seed: int | str, kind: str, domain: Domain = SEEN, **limits: Any
) -> tuple[Scene, SceneQuestion]:
    """Return the scene and the question of a seed and a kind. Every answer is equally likely.

    `limits` go to `sample_scene`.
    """
    rng = random.Random(f"ask {seed} {kind}")
    wanted = KINDS[kind].draw(rng, domain)
    state = rng.getstate()

    def possible(scene: Scene) -> bool:
        rng.setstate(state)
        return KINDS[kind].find(Notes.of(scene), rng, wanted) is not None

    scene = sample_scene(f"{seed} {kind}", domain=domain, accept=possible, **limits)
    rng.setstate(state)
    asked = ask_kind(Notes.of(scene), rng, kind, wanted, domain)
    assert asked is not None
    return scene, asked
