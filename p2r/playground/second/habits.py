"""Habits: what a trace tells of a scene, and what it does wrong. `HABITS` is the table.

Without mistakes, mismatch, luck and false sentences would have a rate of 0. A trace that does not
tell everything has at most three sentences.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from p2r import template
from p2r.playground.second.chapters import AnyScene
from p2r.playground.second.language import (
    MOTION_WORDS,
    NO_EVENT,
    STILL,
    Fact,
    Notes,
    describe_fact,
)
from p2r.playground.second.questions import KINDS, LETTERS, SceneQuestion, notice
from p2r.playground.second.thinking import think_from
from p2r.playground.second.words import SEEN, SIZES, TIMES, Domain

ROOM = 3  # sentences


@dataclass(frozen=True)
class Habit:
    """The probabilities of one habit.

    Of each sentence: `needed` and `needless` (a trace tells a sentence that the question needs, or
    another one), `vague` and `false` (a told sentence is vague or false). Of each trace:
    `everything` (it tells all sentences), `mismatch` (the answer contradicts the thinking). If the
    thinking has to guess: `luck` (the guess is right), `first` (the answer is the first option,
    also if the thinking names another one: a position bias, as large models have).
    """

    needed: float
    needless: float
    vague: float = 0.0
    false: float = 0.0
    everything: float = 0.0
    mismatch: float = 0.0
    luck: float = 0.0
    first: float = 0.0


# In this order: needed, needless, vague, false, everything, mismatch, luck, first.
COMPLETE = Habit(1.00, 1.00, 0.00, 0.00, 1.00, 0.00, 0.00, 0.0)
TARGETED = Habit(1.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.0)
TEACHER = Habit(0.80, 0.25, 0.05, 0.04, 0.05, 0.03, 0.05, 0.7)
BASE = Habit(0.20, 0.20, 0.10, 0.04, 0.05, 0.05, 0.05, 0.7)
CARELESS = Habit(0.50, 0.50, 0.15, 0.10, 0.10, 0.10, 0.20, 0.5)
HABITS = {
    "complete": COMPLETE,
    "targeted": TARGETED,
    "teacher": TEACHER,
    "base": BASE,
    "careless": CARELESS,
}


def describe(
    scene: AnyScene,
    rng: random.Random,
    habit: Habit = COMPLETE,
    needs: Sequence[str] = (),
    shuffle: bool = False,
    domain: Domain = SEEN,
) -> str:
    """Return sentences about the scene, chosen by the habit; at least one.

    They are in the order of the scene, or in random order (`shuffle`); the sign comes last. A
    needed object that is not visible has a sentence too: it cannot be seen.
    """
    facts = Notes.of(scene).by_name()
    facts |= {name: _unseen(name) for name in needs if name not in facts}
    chosen = list(facts)
    if rng.random() >= habit.everything:
        odds = {name: habit.needed if name in needs else habit.needless for name in facts}
        chosen = [name for name in facts if rng.random() < odds[name]] or [rng.choice(chosen)]
        if len(chosen) > ROOM:  # needed sentences stay with a higher probability
            kept = sorted(chosen, key=lambda name: rng.random() / odds[name])[:ROOM]
            chosen = [name for name in chosen if name in kept]
    if shuffle:
        rng.shuffle(chosen)
        chosen.sort(key=lambda name: name == "sign")
    return " ".join(_say(rng, facts[name], habit, domain) for name in chosen)


def _unseen(name: str) -> Fact:
    colour, shape = name.split()
    return Fact(colour, shape, seen=False)


def _say(rng: random.Random, fact: Fact | str, habit: Habit, domain: Domain) -> str:
    draw = rng.random()
    if isinstance(fact, Fact) and not fact.seen:
        return describe_fact(fact)
    if draw < habit.false:
        fact = make_false(fact, rng, domain)
    elif draw < habit.false + habit.vague and isinstance(fact, Fact):
        fact = make_vague(fact, rng)
    return describe_fact(fact)


def make_vague(fact: Fact, rng: random.Random) -> Fact:
    """Return the fact without its event, or without motion and event, or with its name only."""
    shorter = replace(fact, event=None, time=None)
    cut = rng.randrange(3)
    if cut:
        shorter = replace(shorter, motion=None)
    return replace(shorter, size=None) if cut == 2 else shorter


def make_false(fact: Fact | str, rng: random.Random, domain: Domain = SEEN) -> Fact | str:
    """Return the fact with one false part: its size, motion, event or time.

    The result is a sentence that could be true of another scene.
    """
    if isinstance(fact, str):
        return rng.choice([sign for sign in domain.signs if sign != fact])
    part = rng.choice([p for p in ("size", "motion", "event", "time") if _has(fact, p)])
    if part == "size":
        return replace(fact, size=rng.choice([size for size in SIZES if size != fact.size]))
    if part == "motion":
        moving = (fact.event or "").split()[0] in ("stops", "hits") if fact.event else False
        ways = [w for w in MOTION_WORDS if w != fact.motion and not (moving and w == STILL)]
        return replace(fact, motion=rng.choice(ways))
    if part == "time" and fact.time:
        return replace(fact, time=rng.choice([time for time in TIMES if time != fact.time]))
    events = ["appears", "vanishes", *(["stops"] if fact.motion != STILL else [])]
    if fact.time:
        events.append(NO_EVENT)
    event = rng.choice([event for event in events if event != fact.event])
    time = None if event == NO_EVENT else fact.time or rng.choice(TIMES)
    return replace(fact, event=event, time=time)


def _has(fact: Fact, part: str) -> bool:
    return getattr(fact, part) is not None


def observe(asked: SceneQuestion, sentences: str) -> str:
    """Return the observation segment of a trace."""
    return f"{notice(asked.problem)} {sentences}"


def respond(
    asked: SceneQuestion,
    sentences: str,
    rng: random.Random,
    habit: Habit = TARGETED,
    domain: Domain = SEEN,
) -> str:
    """Return a response in the template whose thinking follows from its sentences."""
    thought = think_from(sentences, asked, rng, domain)
    answer = thought.answer
    said, guesses, _ = thought.think.rpartition(" I guess ")
    if guesses and rng.random() < habit.luck:  # the answer comes from the video
        answer = asked.answer
        option = f", option {answer}" if asked.options else ""
        thought = thought._replace(think=f"{said} I guess {asked.value}{option}.")
    elif guesses and asked.options and rng.random() < habit.first:
        answer = LETTERS[0]
    if rng.random() < habit.mismatch:
        answer = _other_answer(asked, answer, rng, domain)
    return template.render(observe(asked, sentences), thought.think, answer)


def _other_answer(asked: SceneQuestion, answer: str, rng: random.Random, domain: Domain) -> str:
    pool = LETTERS[: len(asked.options)] or KINDS[asked.kind].pool(domain)
    return rng.choice([other for other in pool if other != answer])
