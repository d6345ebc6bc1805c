"""The playground's perception judge: is the observation sufficient to deduce the correct answer?

Like the LLM judge, it sees the question, the correct answer and the observation, but not the video
and not the reasoning. It reads the sentences of the observation (`read_facts`), assumes that
nothing else exists (closed world), and answers the question from them. If that answer is correct,
the observation is sufficient.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from p2r.judges.base import BaseJudge
from p2r.playground import SOURCE
from p2r.playground.language import (
    COUNTED,
    Fact,
    Facts,
    ask_event,
    read_facts,
    tell_event,
    tell_motion,
)
from p2r.playground.second.oracle import FOREIGN, judge_notes
from p2r.playground.second.words import NEW, SEEN
from p2r.playground.truth import has_scene, sentence_truth
from p2r.playground.world import COLOURS, MOTIONS, SHAPES, SIGNS
from p2r.records import Question, Verdict
from p2r.scoring import accuracy

_ALL_SIGNS = {*SIGNS, *SEEN.signs, *NEW.signs}


class MissingFact(Exception):
    """The observation leaves out a fact that the question needs; the message names the fact."""


def _described(facts: Facts, name: str) -> Fact:
    fact = facts.named(name)
    if fact is None:
        raise MissingFact(f"the {name} is not described")
    return fact


def _happened(facts: Facts, name: str) -> Fact:
    fact = _described(facts, name)
    if fact.event is None:
        raise MissingFact(f"no event of the {name} is described")
    return fact


def _direction(facts: Facts, name: str) -> str:
    return _described(facts, name).motion or "it stays still"


def _happening(facts: Facts, name: str) -> str:
    return f"it {tell_event(_happened(facts, name), time=False)}"


def _first(facts: Facts, options: Sequence[str]) -> str:
    """Return the option whose event comes first. The times of all options must differ."""
    told = {f"the {f.name} {tell_event(f, time=False)}": f.time for f in facts.objects if f.event}
    for option in options:
        if option not in told:
            raise MissingFact(f"the observation does not say that {option}")
    times = sorted(told[option] or 0 for option in options)
    if times[:2] == times[:1] * 2:
        raise MissingFact(
            f"the observation does not say what comes first: two events at {times[0]} s"
        )
    return min(options, key=lambda option: told[option] or 0)


def _bigger(facts: Facts, a: str, b: str) -> str:
    sizes = {name: _described(facts, name).size for name in (a, b)}
    if sizes[a] == sizes[b]:
        return "they are equal"
    return f"the {max(sizes, key=lambda name: sizes[name] == 'big')}"


def _colour_of_mover(facts: Facts, motion: str) -> str:
    colours = {fact.colour for fact in facts.objects if fact.motion == motion}
    if len(colours) != 1:
        raise MissingFact(
            f"{len(colours) or 'no'} objects are described as moving {motion}, not one"
        )
    return colours.pop()


def _count(facts: Facts, what: str) -> str:
    return str(sum(map(COUNTED[what], facts.objects)))


def _sign(facts: Facts) -> str:
    if facts.sign is None:
        raise MissingFact("the text of the sign is not described")
    return facts.sign


def _behaviour(facts: Facts, name: str) -> str:
    fact = _described(facts, name)
    event = f" and {tell_event(fact, time=False)}" if fact.event else ""
    return f"It {tell_motion(fact)}{event}."


def _second(facts: Facts, name: str, event: str) -> str:
    fact = _happened(facts, name)
    if ask_event(fact) != event:
        raise MissingFact(f"the observation does not say that the {name} will {event}")
    return str(fact.time)


_NAME = rf"((?:{'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)}))"
_MOTION = "|".join(MOTIONS)
_SIGN_PROBLEM = "What does the sign say?"
# How to answer each form of question from the facts and the words in brackets. The forms name only
# things of this world: a question about other things is not the playground's.
_ANSWERS: dict[str, Callable[..., str]] = {
    rf"Which way does the {_NAME} move\?": _direction,
    rf"What happens to the {_NAME}\?": _happening,
    rf"Which is bigger, the {_NAME} or the {_NAME}\?": _bigger,
    rf"What colour does the object that moves ({_MOTION}) have at first\?": _colour_of_mover,
    rf"How many ({'|'.join(COUNTED)})\?": _count,
    re.escape(_SIGN_PROBLEM): _sign,
    rf"What does the {_NAME} do\?": _behaviour,
    rf"After how many seconds does the {_NAME} (.+)\?": _second,
}


def deduce(question: Question, facts: Facts) -> str | None:
    """Return the answer that follows from the facts alone.

    Returns None if the question is not one of the playground's. Raises `MissingFact` if a fact is
    missing.
    """
    if question.problem == "Which happens first?" and question.options:
        events = [option.partition(". ")[2] for option in question.options]
        named = all(re.match(rf"the {_NAME} ", event) for event in events)
        return _first(facts, events) if named else None
    for form, answer in _ANSWERS.items():
        if match := re.fullmatch(form, question.problem):
            return answer(facts, *match.groups())
    return None


def _is_foreign(question: Question) -> bool:
    """Return whether a question is about another video than one of the playground.

    Its source or its scene says so. Only the answer tells a sign of the playground from another one
    if both are missing.
    """
    if question.source == SOURCE or isinstance(question.meta.get("scene"), dict):
        return False
    return bool(question.source) or (
        question.problem == _SIGN_PROBLEM and question.answer not in _ALL_SIGNS
    )


class OracleJudge(BaseJudge):
    """Judges playground observations exactly and without cost."""

    name = "oracle"
    free = True

    async def ask(self, question: Question, observation: str) -> Verdict:
        """Return the verdict. It is unknown for questions that are not the playground's."""
        if _is_foreign(question):
            return self._verdict(None, FOREIGN)
        if question.meta.get("generation") == 2:
            return self._verdict(*judge_notes(question, observation))
        facts = read_facts(observation)
        if not facts.consistent:
            return self._verdict(False, "The observation contradicts itself.")
        try:
            deduced = deduce(question, facts)
        except MissingFact as missing:
            return self._verdict(False, f"Not deducible: {missing}.")
        if deduced is None:
            return self._verdict(None, FOREIGN)
        score = accuracy(question.problem_type, deduced, question.answer, question.options or None)
        if score is None:
            return self._verdict(None, f"The correct answer {question.answer!r} cannot be scored.")
        if score < 1.0:
            return self._verdict(False, f"The observation leads to {deduced!r} instead.")
        return self._verdict(True, f"The observation leads to {deduced!r}, the correct answer.")

    def _verdict(self, sufficient: bool | None, rationale: str) -> Verdict:
        return Verdict(sufficient=sufficient, rationale=rationale, judge=self.name)


class GroundedJudge(OracleJudge):
    """Judges like the oracle, and also sees the scene: every sentence must be true.

    An observation is sufficient if the oracle says so and no sentence is false.
    """

    name = "grounded"

    async def ask(self, question: Question, observation: str) -> Verdict:
        """Return the verdict. It is unknown if the question does not come with its scene."""
        verdict = await super().ask(question, observation)
        if not has_scene(question):
            return self._verdict(None, "The scene of this question is not known.")
        told = sentence_truth(question, observation)
        false = [sentence for sentence, truth in told if truth == "false"]
        if verdict.sufficient is None or not false:
            return verdict
        return self._verdict(False, f"Not true of the video: {' '.join(false)}")
