"""What the scene of a playground question says about an observation: which sentences are true.

A sufficient observation can still be untrue, because the judge sees only text. The playground knows
the scene. Videos of other data sets have no known scene: their sentences are "unknown".
"""

from __future__ import annotations

import re

from p2r.playground import language
from p2r.playground.second import world as second
from p2r.playground.second.chapters import SECONDS, LongScene, scene_from_dict
from p2r.playground.second.language import Notes, describe_fact
from p2r.playground.truth import generation_of, has_scene, sentence_truth
from p2r.playground.world import Scene
from p2r.records import Question

# A sentence ends at its mark and at the end of a line, but not inside "2.5 s".
_SENTENCE = re.compile(r"\S(?:[^\n]*?[.!?]+(?=\s|$)|[^\n]*)")
# What reading a damaged scene raises: the fields of a question come from a file.
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError)


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, without the white space between them."""
    return [found[0].rstrip() for found in _SENTENCE.finditer(text)]


def true_sentences(question: Question) -> list[str]:
    """Return the scene of a question as sentences: one for each object, and one for the sign."""
    return [sentence for sentence, _ in timed_sentences(question)]


def timed_sentences(question: Question) -> list[tuple[str, float]]:
    """Return the sentences of `true_sentences`, each with the second its times count from.

    That is the start of a chapter in a clip of several scenes, and 0 in other clips.
    """
    if not has_scene(question):
        return []
    try:
        if generation_of(question) == 2:
            scene = scene_from_dict(question.meta["scene"])
            chapters = scene.chapters if isinstance(scene, LongScene) else [scene]
            return [
                (sentence, place * SECONDS)
                for place, chapter in enumerate(chapters)
                for sentence in _sentences_of(chapter)
            ]
        facts = language.Facts.of(Scene.from_dict(question.meta["scene"]))
        sign = [language.tell_sign(facts.sign)] if facts.sign else []
        return [(sentence, 0.0) for sentence in (*map(language.tell, facts.objects), *sign)]
    except _DAMAGED:
        return []


def _sentences_of(chapter: second.Scene) -> list[str]:
    notes = Notes.of(chapter)
    return [describe_fact(fact) for fact in (*notes.objects, notes.sign) if fact]


def find_truths(question: Question, observation: str | None) -> dict[str, str]:
    """Return the truth of each sentence of an observation that can be checked."""
    try:
        return dict(sentence_truth(question, observation or ""))
    except _DAMAGED:
        return {}


def observation_truth(question: Question, observation: str | None) -> str:
    """Return "true" if all sentences that state a fact are true, "false" if one is not."""
    words = set(find_truths(question, observation).values())
    if "false" in words:
        return "false"
    return "true" if "true" in words else "unknown"


def subject_of(sentence: str) -> tuple[str, ...]:
    """Return what a sentence of the playground is about: colour and shape, or the sign."""
    words = sentence.split()
    if words[:2] == ["The", "sign"]:
        return ("sign",)
    return tuple(words[1:3]) if words[:1] == ["The"] else tuple(words[2:4])
