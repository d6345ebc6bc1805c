"""Questions of the second world, and their answers from notes.

A `Kind` asks about facts that only one or two sentences hold. `draw` chooses the right answer
first, every answer with the same probability; then a scene is drawn that has it. So a reader
without the needed sentences is right once in as many times as there are options:

- The other sentences say nothing about the answer. Motions, sizes and times are independent.
- Questions that describe an object ("the object that moves left") ask for another part of its
  sentence. No object can be ruled out by reading about others.
- No question counts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from p2r.playground.second.language import (
    MOTION_WORDS,
    NO_EVENT,
    STILL,
    UNSEEN,
    Fact,
    Notes,
    tell,
    tell_sign,
)
from p2r.playground.second.words import EVENTS, SEEN, SIZES, TIMES, Domain
from p2r.playground.second.world import Scene, sample_scene
from p2r.records import Question

LETTERS = "ABCD"
CANNOT_TELL = "cannot tell"
COMPARISONS = tuple(
    f"{size} size, {motion} motion" for size in ("same", "other") for motion in ("same", "other")
)


class SceneQuestion(NamedTuple):
    """A question about a scene.

    `needs`: the names of the objects (or "sign") whose
    sentences an answer needs. `value`: the right answer in words, without its letter.
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


# ---- reading notes


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


def _solve_motion(notes: Notes, name: str) -> Solution:
    fact = _read(notes, name)
    return Solution(_part(fact, "motion"), (fact,))


def _solve_event(notes: Notes, name: str) -> Solution:
    fact = _read(notes, name)
    return Solution(_part(fact, "event"), (fact,))


def _solve_when(notes: Notes, name: str) -> Solution:
    fact = _read(notes, name)
    return Solution(_part(fact, "time"), (fact,))


def _solve_sign(notes: Notes) -> Solution:
    if notes.sign is None:
        raise MissingFact("The sign is not described.")
    if "sign" in notes.unclear:
        raise MissingFact("The sign is described in two ways.")
    return Solution(notes.sign, (notes.sign,))


def _solve_mover_time(notes: Notes, way: str) -> Solution:
    fact = _mover(notes, way)
    return Solution(_part(fact, "time"), (fact,))


def _solve_mover_colour(notes: Notes, way: str) -> Solution:
    fact = _mover(notes, way)
    return Solution(fact.colour, (fact,))


def _solve_changer_motion(notes: Notes, time: str) -> Solution:
    found = [fact for fact in notes.objects if str(fact.time) == time]
    fact = _only(notes, f"object with an event at {time} s", found)
    return Solution(_part(fact, "motion"), (fact,))


def _solve_compare(notes: Notes, a: str, b: str) -> Solution:
    one = _read(notes, a)
    two = _read(notes, b, (one,))
    words = []
    for part in ("size", "motion"):
        same = _part(one, part) == _part(two, part, (one,))
        words.append(f"{'same' if same else 'other'} {part}")
    return Solution(", ".join(words), (one, two))


def _solve_partner(notes: Notes, name: str) -> Solution:
    one = _read(notes, name)
    time = _part(one, "time")
    found = [fact for fact in notes.objects if str(fact.time) == time and fact.name != name]
    two = _only(notes, f"other object with an event at {time} s", found, (one,))
    return Solution(_part(two, "motion", (one,)), (one, two))


def _solve_chain(notes: Notes, name: str) -> Solution:
    one = _read(notes, name)
    shape = one.hit
    if shape is None:
        _part(one, "event")
        raise MissingFact("It hits no object.", (one,))
    found = [fact for fact in notes.objects if fact.shape == shape]
    two = _only(notes, shape, found, (one,))
    return Solution(two.colour, (one, two))


# ---- finding the arguments in a scene


def _movers(notes: Notes) -> list[Fact]:
    """Return the objects that move in a direction in which no other object moves."""
    motions = [fact.motion for fact in notes.objects]
    return [f for f in notes.objects if f.motion != STILL and motions.count(f.motion) == 1]


def _pick(rng: random.Random, found: Sequence[Fact], part: str = "name") -> tuple[str, ...] | None:
    if not found:
        return None
    value = getattr(rng.choice(found), part)
    return (str(value).removeprefix("moves "),)


def _with_motion(notes: Notes, rng: random.Random, motion: str) -> tuple[str, ...] | None:
    return _pick(rng, [fact for fact in notes.objects if fact.motion == motion])


def _with_event(notes: Notes, rng: random.Random, event: str) -> tuple[str, ...] | None:
    """Return an object with the event. Another object must be there that could be hit."""
    found = [fact for fact in notes.objects if (fact.event or "").startswith(event)]
    picked = _pick(rng, found)
    return picked if picked and _targets(notes, picked[0]) else None


def _targets(notes: Notes, name: str) -> list[str]:
    """Return the shapes that an object could hit."""
    return [
        fact.shape
        for fact in notes.objects
        if fact.motion == STILL and fact.event == NO_EVENT and fact.name != name
    ]


def _with_time(notes: Notes, rng: random.Random, time: int) -> tuple[str, ...] | None:
    return _pick(rng, [fact for fact in notes.objects if fact.time == time])


def _with_sign(notes: Notes, rng: random.Random, wanted: None) -> tuple[str, ...] | None:
    return () if notes.sign else None


def _mover_with_time(notes: Notes, rng: random.Random, time: int) -> tuple[str, ...] | None:
    return _pick(rng, [fact for fact in _movers(notes) if fact.time == time], "motion")


def _any_mover(notes: Notes, rng: random.Random, wanted: None) -> tuple[str, ...] | None:
    return _pick(rng, _movers(notes), "motion")


def _changer_with_motion(notes: Notes, rng: random.Random, motion: str) -> tuple[str, ...] | None:
    times = [fact.time for fact in notes.objects]
    found = [f for f in notes.objects if f.time and times.count(f.time) == 1]
    return _pick(rng, [fact for fact in found if fact.motion == motion], "time")


def _pair(notes: Notes, rng: random.Random, wanted: tuple) -> tuple[str, ...] | None:
    sizes, motions = wanted
    found = [
        (a.name, b.name)
        for a in notes.objects
        for b in notes.objects
        if a is not b and (a.size, b.size) == sizes and (a.motion, b.motion) == motions
    ]
    return rng.choice(found) if found else None


def _partner_with_motion(notes: Notes, rng: random.Random, motion: str) -> tuple[str, ...] | None:
    times = [fact.time for fact in notes.objects]
    found = [
        a
        for a in notes.objects
        for b in notes.objects
        if a is not b and a.time and a.time == b.time and times.count(a.time) == 2
        if b.motion == motion
    ]
    return _pick(rng, found)


def _hitter(notes: Notes, rng: random.Random, wanted: None) -> tuple[str, ...] | None:
    return _pick(rng, [fact for fact in notes.objects if fact.hit])


# ---- the kinds


def _draw_motion(rng: random.Random, domain: Domain) -> str:
    return rng.choice(MOTION_WORDS)


def _draw_event(rng: random.Random, domain: Domain) -> str:
    return rng.choice((*EVENTS, NO_EVENT))


def _draw_time(rng: random.Random, domain: Domain) -> int:
    return rng.choice(TIMES)


def _draw_nothing(rng: random.Random, domain: Domain) -> None:
    """Colours and signs are equally likely in every scene."""


def _draw_pair(rng: random.Random, domain: Domain) -> tuple:
    sizes, motions = list(SIZES), list(MOTION_WORDS)
    rng.shuffle(sizes)
    rng.shuffle(motions)
    return (
        (sizes[0], sizes[0] if rng.random() < 0.5 else sizes[1]),
        (motions[0], motions[0] if rng.random() < 0.5 else motions[1]),
    )


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
        *(_CHOICE, _draw_motion, _with_motion, _solve_motion, _motions),
        notice="the {}",
    ),
    "event": Kind(
        "What is the event of the {}?",
        *(_CHOICE, _draw_event, _with_event, _solve_event, lambda domain: ()),
        notice="the {}",
    ),
    "when": Kind(
        "At which second is the event of the {}?",
        *("numerical", _draw_time, _with_time, _solve_when, _times),
        notice="the {}",
    ),
    "sign": Kind(
        "What does the sign say?",
        *("OCR", _draw_nothing, _with_sign, _solve_sign, _signs),
        notice="the sign",
    ),
    "mover time": Kind(
        "At which second is the event of the object that moves {}?",
        *("regression", _draw_time, _mover_with_time, _solve_mover_time, _times),
        notice="the object that moves {}",
    ),
    "mover colour": Kind(
        "What colour is the object that moves {}?",
        *("free-form", _draw_nothing, _any_mover, _solve_mover_colour, _colours),
        notice="the object that moves {}",
    ),
    "changer motion": Kind(
        "How does the object with the event at {} s move?",
        *(_CHOICE, _draw_motion, _changer_with_motion, _solve_changer_motion, _motions),
        notice="the object with the event at {} s",
    ),
    "compare": Kind(
        "Compare the {} and the {}.",
        *(_CHOICE, _draw_pair, _pair, _solve_compare, lambda domain: COMPARISONS),
        notice="the {} and the {}",
    ),
    "partner": Kind(
        "How does the other object move that has its event together with the {}?",
        *(_CHOICE, _draw_motion, _partner_with_motion, _solve_partner, _motions),
        notice="the {} and its partner",
    ),
    "chain": Kind(
        "What colour is the object that the {} hits?",
        *("free-form", _draw_nothing, _hitter, _solve_chain, _colours),
        notice="the {} and the object that it hits",
    ),
}
TWO_SENTENCES = ("compare", "partner", "chain")
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


def chance(question: Question, domain: Domain = SEEN) -> float | None:
    """Return the probability of a right guess; None if the question is not of this world."""
    found = kind_of(question.problem)
    if found is None:
        return None
    return 1 / (len(question.options) or len(KINDS[found[0]].pool(domain)))


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


def ask(
    scene: Scene,
    rng: random.Random,
    kinds: Sequence[str] = tuple(KINDS),
    domain: Domain = SEEN,
) -> SceneQuestion:
    """Return a question about a given scene, of a random kind that the scene allows.

    Kinds and answers are only roughly balanced. `make_asked` balances both exactly.
    """
    notes = Notes.of(scene)
    while True:
        kind = rng.choice(kinds)
        asked = ask_kind(notes, rng, kind, KINDS[kind].draw(rng, domain), domain)
        if asked is not None:
            return asked


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


def describe_fact(fact: Fact | str) -> str:
    """Return the sentence of a used fact, or of the text of a sign."""
    return tell_sign(fact) if isinstance(fact, str) else tell(fact)
