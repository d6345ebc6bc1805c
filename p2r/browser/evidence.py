"""What the sentences of a case rest on: times, frames, and other sentences.

A sentence of the observation names times ("at 3 s"), which are places in the clip. A sentence of
the reasoning, and the judge's rationale, rest on a sentence of the observation if that sentence
holds most of their words. A reasoning sentence that rests on none is a sign of luck.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from p2r.browser.scene import (
    find_truths,
    split_sentences,
    subject_of,
    timed_sentences,
    true_sentences,
)
from p2r.records import Case, Question

# The share of words that another sentence must hold; a sentence with fewer words says too little.
RESTS = 0.6
SAYS_SOMETHING = 3
# A longer text is shown as it is, without its sentences.
LONGEST = 6000
_SECONDS = re.compile(r"(?<![\w.])(\d{1,5}(?:\.\d{1,3})?)\s?(?:seconds?|secs?|s)\b(?!\w)")
_CLOCK = re.compile(r"(?<![\d:])(\d{1,2}):([0-5]\d)(?![\d:])")
_WORD = re.compile(r"\w+")
_STOP = frozenset(
    _WORD.findall(
        "a an and are as at based be by do does for from has have i in is it its need notice "
        "observation observations observed of on only or question s second seconds so that the "
        "then there therefore they this to was were what which with"
    )
)
# The observation says what it looks for before it says what it sees.
_INTENT = re.compile(r"(?:based on the question|i need to)\b", re.IGNORECASE)
_CLAUSE = re.compile(r"[,;:]| and (?=the |a |an )| so | because | but ")
EVENT_TIME = re.compile(r"at (\d) s\.$")


@dataclass(frozen=True)
class Piece:
    """A part of a sentence; `time` (seconds) if it names one."""

    text: str
    time: float | None = None


@dataclass(frozen=True)
class Sentence:
    """A sentence with its number (from 1), its pieces, and the times in it.

    `truth`: "true", "false" or "unknown". `instead`: what the scene holds instead of an untrue
    sentence. `rests_on`: the number of the observation sentence that it rests on; 0 for none; None
    if that was not asked or the sentence says too little.
    """

    number: int
    text: str
    pieces: tuple[Piece, ...]
    truth: str = "unknown"
    instead: str = ""
    rests_on: int | None = None

    @property
    def times(self) -> list[float]:
        """The times that the sentence names, in seconds."""
        return [piece.time for piece in self.pieces if piece.time is not None]


def read_observation(question: Question, observation: str | None) -> list[Sentence]:
    """Return the sentences of an observation, with their truth where the scene is known."""
    if not observation or len(observation) > LONGEST:
        return []
    timed, truths = timed_sentences(question), find_truths(question, observation)
    scenic, starts = [sentence for sentence, _ in timed], _starts(timed)
    return [
        Sentence(
            number,
            text,
            cut_times(text, starts.get(subject_of(text), 0.0)),
            truths.get(text, "unknown"),
            _find_instead(text, scenic) if truths.get(text) == "false" else "",
        )
        for number, text in enumerate(split_sentences(observation), 1)
    ]


def read_reasoning(think: str | None, observation: Sequence[Sentence]) -> list[Sentence]:
    """Return the sentences of a reasoning, each with the observation sentence it rests on."""
    if not think or len(think) > LONGEST:
        return []
    return [
        Sentence(number, text, (Piece(text),), rests_on=find_ground(text, observation))
        for number, text in enumerate(split_sentences(think), 1)
    ]


def find_ground(text: str, observation: Sequence[Sentence]) -> int | None:
    """Return the number of the sentence that holds most words of a text; 0 if none holds enough.

    If a text has several clauses, a sentence must hold each of them; returns the number of the
    sentence of the first clause.
    Returns None if the text has too few words to say something, or nothing was observed.
    """
    seen = [s for s in observation if not _INTENT.match(s.text)]
    clauses = [clause for clause in _CLAUSE.split(text) if len(_content(clause)) >= SAYS_SOMETHING]
    if not seen or not clauses:
        return None
    grounds = [_find_one(_content(clause), seen) for clause in clauses]
    return 0 if 0 in grounds else grounds[0]


def _find_one(said: frozenset[str], observation: Sequence[Sentence]) -> int:
    shares = [(len(said & _content(s.text)) / len(said), -s.number) for s in observation]
    best, number = max(shares)
    return -number if best >= RESTS else 0


def find_unsupported(case: Case) -> str | None:
    """Return the first sentence of the reasoning that no sentence of the observation supports."""
    observation = read_observation(case.question, case.trace.observation)
    steps = read_reasoning(case.trace.think, observation)
    return next((step.text for step in steps if step.rests_on == 0), None)


def cut_times(text: str, begin: float = 0.0) -> tuple[Piece, ...]:
    """Return the pieces of a sentence, each named time on its own; times count from `begin`."""
    found = [(m.start(), m.end(), begin + float(m[1])) for m in _SECONDS.finditer(text)]
    found += [
        (m.start(), m.end(), begin + 60 * int(m[1]) + int(m[2])) for m in _CLOCK.finditer(text)
    ]
    pieces, at = [], 0
    for start, end, time in sorted(found):
        if start < at:
            continue
        pieces += [Piece(text[at:start])] if start > at else []
        pieces.append(Piece(text[start:end], time))
        at = end
    return (*pieces, Piece(text[at:])) if at < len(text) else tuple(pieces)


def compare_with_scene(
    question: Question, observation: Sequence[Sentence]
) -> list[tuple[str, Sentence | None]]:
    """Return each true sentence about the scene, with the observation's sentence on its subject.

    None where the observation does not mention it. Empty if the scene is not known.
    """
    rows = []
    for truth in true_sentences(question):
        same = [s for s in observation if s.text == truth]
        about = [
            s
            for s in observation
            if s.truth != "unknown" and subject_of(s.text) == subject_of(truth)
        ]
        rows.append((truth, next(iter(same or about), None)))
    return rows


def find_events(question: Question) -> list[tuple[float, str]]:
    """Return the (second of the clip, sentence) of each event of a known scene, by time."""
    return sorted(
        (start + float(match[1]), text)
        for text, start in timed_sentences(question)
        if (match := EVENT_TIME.search(text))
    )


def _starts(timed: Sequence[tuple[str, float]]) -> dict[tuple[str, ...], float]:
    """Return the second of the clip at which the scene of each object starts."""
    return {subject_of(sentence): start for sentence, start in timed}


def _find_instead(text: str, scenic: Sequence[str]) -> str:
    """Return the true sentence about the object of an untrue one; "" if there is none."""
    return next((truth for truth in scenic if subject_of(truth) == subject_of(text)), "")


def _content(text: str) -> frozenset[str]:
    return frozenset(word for word in _WORD.findall(text.lower()) if word not in _STOP)
