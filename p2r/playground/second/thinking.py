"""Thinking that follows from notes only.

`think_from` repeats the sentences that hold the needed facts, then names the answer. If a needed
fact is missing, the thinking says so, and the answer is a guess: each answer is equally likely.
"cannot tell" is the answer only if it is an option.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from p2r.playground.second.language import Notes, read_notes
from p2r.playground.second.questions import (
    CANNOT_TELL,
    KINDS,
    MissingFact,
    SceneQuestion,
    describe_fact,
    kind_of,
    solve,
)
from p2r.playground.second.words import SEEN, Domain
from p2r.records import Question

START = "Based on the observations, "


class Thought(NamedTuple):
    """A think segment and its answer. `told` is False if the answer is a guess."""

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
    values = {option.partition(". ")[2]: option[0] for option in asked.options}
    told, lacking, value = (), "", None
    try:
        value, told = solve(asked.problem, notes)
    except MissingFact as missing:
        told, lacking = missing.used, str(missing)
    read = [describe_fact(fact) for fact in told]
    if value is not None and values and value not in values:
        lacking, value = f"No option says {value}.", None
    guessed = value is None
    if guessed:
        value = CANNOT_TELL if CANNOT_TELL in values else _guess(rng, asked, values, domain)
    said = " ".join(filter(None, (*read, lacking)))
    lead = "I guess" if guessed and value != CANNOT_TELL else "So"
    option = f", option {values[value]}" if values else ""
    return Thought(
        think=f"{START}{said[:1].lower()}{said[1:]} {lead} {value}{option}.",
        answer=values.get(value, value),
        told=not guessed or value == CANNOT_TELL,
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
