"""Compares an observation with the known scene of a playground question, sentence by sentence.

A sufficient observation can still be untrue: the judge sees only text. The playground knows the
scene, so it can tell. Videos of other data sets have no known scene: their sentences are "unknown".
"""

from __future__ import annotations

import re
from typing import Literal

from p2r.playground.language import Facts, read_facts, tell, tell_sign
from p2r.playground.world import Scene
from p2r.records import Question

Truth = Literal["true", "false", "unknown"]
_SENTENCE = re.compile(r"\S(?:[^\n]*?[.!?]+(?=\s|$)|[^\n]*)")


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, without the white space between them."""
    return [found[0].rstrip() for found in _SENTENCE.finditer(text)]


def scene_of(question: Question) -> Scene | None:
    """Return the scene that is stored with a question of the playground; None if there is none."""
    try:
        return Scene.from_dict(question.meta["scene"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def true_sentences(scene: Scene) -> list[str]:
    """Return the scene as sentences: one for each object, and one for the sign."""
    facts = Facts.of(scene)
    signs = [tell_sign(facts.sign)] if facts.sign else []
    return [*map(tell, facts.objects), *signs]


def sentence_truth(question: Question, observation: str | None) -> list[tuple[str, Truth]]:
    """Return each sentence of an observation with its truth.

    A sentence is "false" if the scene has no object of which exactly this is true: an untrue or an
    incomplete sentence. It is "unknown" if it states no fact, or if the scene is not known.
    """
    scene = scene_of(question)
    known = set() if scene is None else set(true_sentences(scene))
    found: list[tuple[str, Truth]] = []
    for sentence in split_sentences(observation or ""):
        facts = read_facts(sentence)
        told = [*map(tell, facts.objects), *([tell_sign(facts.sign)] if facts.sign else [])]
        word: Truth = "unknown"
        if scene is not None and told:
            word = "true" if known.issuperset(told) else "false"
        found.append((sentence, word))
    return found


def observation_truth(question: Question, observation: str | None) -> Truth:
    """Return "true" if all sentences that state a fact are true, "false" if one is not."""
    words = {word for _, word in sentence_truth(question, observation)}
    if "false" in words:
        return "false"
    return "true" if "true" in words else "unknown"
