"""Is an observation true? Compares its sentences with the scene that the question is about.

A judge that reads only text cannot see a false sentence. The playground knows the scene, so every
sentence is true, false, or unknown (not a sentence of the playground).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from p2r.playground import language
from p2r.playground.world import Scene
from p2r.records import Question

Truth = Literal["true", "false", "unknown"]
_SENTENCE = re.compile(r"[^.!?]+[.!?]?")
_NOTICE = "Based on the question, I need to notice"  # the first sentence: it tells no fact


def split_sentences(observation: str) -> list[str]:
    """Return the sentences of an observation, without the one that says what to notice."""
    found = (match.strip() for match in _SENTENCE.findall(observation))
    return [sentence for sentence in found if sentence and not sentence.startswith(_NOTICE)]


def sentence_truth(question: Question, observation: str) -> list[tuple[str, Truth]]:
    """Return every sentence of an observation with its truth, in order.

    The list is empty if the scene of the question is not known: `question.meta` has no scene.
    """
    check = _checker(question)
    if check is None:
        return []
    return [(sentence, check(sentence)) for sentence in split_sentences(observation)]


def _checker(question: Question) -> Callable[[str], Truth] | None:
    """Return the function that checks one sentence against the scene of a question."""
    scene = question.meta.get("scene")
    if not isinstance(scene, dict):
        return None
    facts = language.Facts.of(Scene.from_dict(scene))
    true = {language.tell(fact) for fact in facts.objects}
    if facts.sign:
        true.add(language.tell_sign(facts.sign))

    def check(sentence: str) -> Truth:
        if sentence in true:
            return "true"
        told = language.read_facts(sentence)
        return "false" if told.objects or told.sign else "unknown"

    return check
