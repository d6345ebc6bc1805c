"""Is an observation true? Compares its sentences with the scene that the question is about.

A judge that reads only text cannot see a false sentence. The playground knows the scene, so every
sentence is true, false, or unknown (not a sentence of the playground). `METRICS` are numbers of
one case, for questions that come with their scene; for others they are None (unknown).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from p2r.playground import SOURCE, language
from p2r.playground.second.chapters import scene_from_dict
from p2r.playground.second.language import Notes, agrees, describe_fact, read_notes, read_sentence
from p2r.playground.second.questions import solve
from p2r.playground.second.reading import MissingFact
from p2r.playground.second.thinking import think_from
from p2r.playground.world import Scene
from p2r.records import Case, Question
from p2r.scoring.answers import extract_choice, read_number
from p2r.template import answer_of

Truth = Literal["true", "false", "unknown"]
Source = Literal["note", "video", "neither"]
PARTS = ("size", "motion", "event", "time")
_SENTENCE = re.compile(r"[^.!?]+[.!?]?")
# What reading a damaged scene raises: the fields of a question come from a file.
_DAMAGED = (KeyError, TypeError, ValueError, AttributeError)
_NOTICE = "Based on the question, I need to notice"  # the first sentence: it tells no fact


# ---- sentences


def split_sentences(observation: str) -> list[str]:
    """Return the sentences of an observation, without the one that says what to notice."""
    found = (match.strip() for match in _SENTENCE.findall(observation))
    return [sentence for sentence in found if sentence and not sentence.startswith(_NOTICE)]


def sentence_truth(question: Question, observation: str) -> list[tuple[str, Truth]]:
    """Return every sentence of an observation with its truth, in order.

    The list is empty if the scene of the question is not known.
    """
    if not has_scene(question):
        return []
    check = _second_checker if generation_of(question) == 2 else _first_checker
    truth = check(question)
    return [(sentence, truth(sentence)) for sentence in split_sentences(observation)]


def has_scene(question: Question) -> bool:
    """Return whether the scene of a question is known: one of the playground, not damaged."""
    if question.source != SOURCE or not isinstance(question.meta.get("scene"), dict):
        return False
    try:
        _ = scene_notes(question) if generation_of(question) == 2 else _first_facts(question)
    except _DAMAGED:
        return False
    return True


def generation_of(question: Question) -> int:
    """Return the generation of the playground that made a question."""
    return int(question.meta.get("generation", 1))


def scene_notes(question: Question) -> Notes:
    """Return what can be seen in the scene of a question of the second generation."""
    return Notes.of(scene_from_dict(question.meta["scene"]))


def _first_facts(question: Question) -> language.Facts:
    return language.Facts.of(Scene.from_dict(question.meta["scene"]))


def _first_checker(question: Question) -> Callable[[str], Truth]:
    facts = _first_facts(question)
    true = {language.tell(fact) for fact in facts.objects}
    if facts.sign:
        true.add(language.tell_sign(facts.sign))

    def check(sentence: str) -> Truth:
        if sentence in true:
            return "true"
        told = language.read_facts(sentence)
        return "false" if told.objects or told.sign else "unknown"

    return check


def _second_checker(question: Question) -> Callable[[str], Truth]:
    notes = scene_notes(question)

    def check(sentence: str) -> Truth:
        told = read_sentence(sentence)
        if told is None:
            return "unknown"
        if isinstance(told, str):
            return "true" if told == notes.sign else "false"
        seen = notes.named(told.name)
        if seen is None:
            return "false" if told.seen else "true"
        return "true" if agrees(told, seen) else "false"

    return check


def missing_facts(question: Question, observation: str) -> list[str]:
    """Return the needed sentences that an observation does not tell, or not completely.

    Known for the second generation; otherwise the list is empty.
    """
    if not has_scene(question) or generation_of(question) != 2:
        return []
    try:
        used = solve(question.problem, scene_notes(question)).used
    except MissingFact:  # the right answer is "cannot tell"
        used = ()
    notes = read_notes(observation)
    told = {*notes.objects, notes.sign}
    return [describe_fact(fact) for fact in used if fact not in told]


# ---- one case


def exact_match(question: Question, answer: str | None) -> bool:
    """Return whether an answer is the right one, without credit for a part of it."""
    given, right = answer_of(answer or "") or "", question.answer
    if question.problem_type == "multiple choice":
        return extract_choice(given, question.options) == extract_choice(right, question.options)
    if (number := read_number(right)) is not None:
        found = read_number(given)
        return found is not None and found.value == number.value
    return given.casefold().strip(" .") == right.casefold().strip(" .")


def exact(case: Case) -> float | None:
    """Return 1 if the answer is exactly right, else 0."""
    if not has_scene(case.question):
        return None
    return float(exact_match(case.question, case.trace.answer))


def told_sentences(case: Case) -> float | None:
    """Return how many sentences of the observation tell something about the scene."""
    return _count(case, "true", "false")


def faithful(case: Case) -> float | None:
    """Return the share of true sentences; None if no sentence can be read."""
    told = told_sentences(case)
    return (_count(case, "true") or 0.0) / told if told else None


def sufficient_and_true(case: Case) -> float | None:
    """Return 1 if the judge says sufficient and no sentence is false."""
    if case.verdict is None or case.verdict.sufficient is None or not has_scene(case.question):
        return None
    return float(case.verdict.sufficient and not _count(case, "false"))


def _count(case: Case, *wanted: Truth) -> float | None:
    if not has_scene(case.question):
        return None
    told = sentence_truth(case.question, case.trace.observation or "")
    return float(sum(truth in wanted for _, truth in told))


METRICS: dict[str, Callable[[Case], float | None]] = {
    "exact": exact,
    "faithful": faithful,
    "sufficient and true": sufficient_and_true,
}


def truth_tags(case: Case) -> list[str]:
    """Return the tag "false sentence" if the observation has one (second generation)."""
    known = has_scene(case.question) and generation_of(case.question) == 2
    return ["false sentence"] if known and _count(case, "false") else []


def truth_metrics(questions: Iterable[Question]) -> tuple[str, ...]:
    """Return the names of the `METRICS` that these questions have: all, or none."""
    known = any(has_scene(question) and generation_of(question) == 2 for question in questions)
    return tuple(METRICS) if known else ()


# ---- many cases


def truth_summary(cases: Sequence[Case]) -> dict[str, Any]:
    """Return the means of the truth metrics, truth by part, and what sufficiency is worth.

    "gap" is the exact accuracy given a sufficient observation minus the one given an insufficient
    observation: what one point of sufficiency is worth in points of accuracy.
    """
    judged = [(case, case.verdict.sufficient) for case in cases if case.verdict]
    enough, lacking = (
        mean_of_known(exact(case) for case, sufficient in judged if sufficient is kind)
        for kind in (True, False)
    )
    return {
        "n": len(cases),
        **{name: mean_of_known(map(metric, cases)) for name, metric in METRICS.items()},
        "sentences told": mean_of_known(map(told_sentences, cases)),
        "true by part": truth_by_part(cases),
        "exact given sufficient": enough,
        "exact given insufficient": lacking,
        "gap": None if enough is None or lacking is None else enough - lacking,
    }


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def truth_by_part(cases: Iterable[Case]) -> dict[str, dict[str, float]]:
    """Return the share of true names, sizes, motions, events, times and signs, each with its n.

    The parts of an object are compared only if the scene has its name.
    """
    right: Counter[str] = Counter()
    told: Counter[str] = Counter()

    def add(part: str, is_true: bool) -> None:
        told[part] += 1
        right[part] += is_true

    for case in cases:
        if not has_scene(case.question) or generation_of(case.question) != 2:
            continue
        scene = scene_notes(case.question)
        for sentence in split_sentences(case.trace.observation or ""):
            fact = read_sentence(sentence)
            if isinstance(fact, str):
                add("sign", fact == scene.sign)
            elif fact is not None and fact.seen:
                true = scene.named(fact.name)
                add("name", true is not None)
                for part in PARTS if true else ():
                    if getattr(fact, part) is not None:
                        add(part, getattr(fact, part) == getattr(true, part))
    return {part: {"true": right[part] / n, "n": n} for part, n in told.items()}


# ---- false notes


def source_followed(question: Question, note: str, answer: str | None) -> Source:
    """Return which source an answer follows, if a note contradicts the video.

    "note": the answer is the one that the note leads to. "video": it is the right answer.
    """
    if exact_match(question, answer):
        return "video"
    thought = think_from(note, question)
    asked = question.model_copy(update={"answer": thought.answer})
    return "note" if thought.told and exact_match(asked, answer) else "neither"
