"""Thinking that follows from notes only.

`think_from` repeats the sentences that hold the needed facts, then names the answer. If the
question describes an object ("the object that moves left"), the thinking repeats the sentences in
order until one fits. If the question asks what a named object hits, the thinking repeats the
sentence about the named object, and says only the colour of the object that is hit. If a needed
fact is missing, the thinking says so, and the answer is a guess: each answer is equally likely.
"cannot tell" is the answer only if it is an option.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from p2r.playground.second.language import Notes, describe_fact, read_notes
from p2r.playground.second.questions import (
    CANNOT_TELL,
    KINDS,
    SceneQuestion,
    kind_of,
    solve,
)
from p2r.playground.second.reading import MissingFact
from p2r.playground.second.words import SEEN, Domain
from p2r.records import Question

START = "Based on the observations, "


class Thought(NamedTuple):
    """A think segment and its answer.

    `told`: the notes hold what the answer needs, or say that it cannot be seen. Otherwise the
    answer is a guess, or "cannot tell".
    """

    think: str
    answer: str
    told: bool


def think_from(
    notes: str | Notes,
    asked: SceneQuestion | Question,
    rng: random.Random | None = None,
    domain: Domain = SEEN,
) -> Thought:
    """Return the thinking that notes lead to. Nothing but the notes and the question is used.

    `rng` draws the guesses; without it, the same notes and question give the same guess.
    """
    if isinstance(notes, str):
        notes = read_notes(notes)
    rng = rng or random.Random(f"guess {notes} {asked.problem} {asked.options}")
    values = {option.partition(". ")[2]: option[:1] for option in asked.options}
    lead, told, remark = "So", True, ""
    try:
        value, used, read, remark = solve(asked.problem, notes)
        used = read or used
        if values and value not in values:
            raise MissingFact(f"No option says {value}.", used)
    except MissingFact as missing:
        used, remark = missing.used, str(missing)
        if CANNOT_TELL in values:
            value, told = CANNOT_TELL, missing.unseen
        else:
            value, told, lead = _guess(rng, asked, values, domain), False, "I guess"
    said = " ".join(filter(None, (*map(describe_fact, used), remark)))
    option = f", option {values[value]}" if values else ""
    return Thought(
        think=f"{START}{said[:1].lower()}{said[1:]} {lead} {value}{option}.",
        answer=values.get(value, value),
        told=told,
    )


def _guess(
    rng: random.Random,
    asked: SceneQuestion | Question,
    values: dict[str, str],
    domain: Domain,
) -> str:
    found = kind_of(asked.problem)
    pool = list(values) or (KINDS[found[0]].pool(domain) if found else ["nothing"])
    return rng.choice(pool)
