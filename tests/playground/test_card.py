"""The card of a model: what it says of writers whose skills are known."""

import random

import pytest

from p2r.data import load_model, load_processor
from p2r.playground.card import card_questions, format_card, make_card, make_writer
from p2r.playground.second.chapters import scene_from_dict
from p2r.playground.second.examples import repeat
from p2r.playground.second.habits import describe
from p2r.playground.second.questions import KINDS, notice
from p2r.playground.second.thinking import think_from
from p2r.template import render

PER_KIND = 2


def write_traces(questions, given, style, looks):
    """Write traces that see and read rightly, and observe nothing in every second trace.

    `looks`: the answer is always the right one, whatever the observation says.
    """
    texts = []
    for place, (question, begun) in enumerate(zip(questions, given, strict=True)):
        if style == "direct":
            texts.append(repeat(f"card {place}").response)
            continue
        notes = begun or question.problem
        if style == "brief" and not begun:
            scene = scene_from_dict(question.meta["scene"])
            notes = describe(scene, random.Random(0)) if place % 2 else "Nothing."
        thought = think_from(notes, question)
        answer = question.answer if looks else thought.answer
        observation = f"{notice(question.problem)} {notes}"
        text = render(None if "think" in style else observation, thought.think, answer)
        texts.append(begun + text[text.index(" <think>") :] if begun else text)
    return texts


def reader(questions, frames, given, style):
    return write_traces(questions, given, style, looks=False)


def looker(questions, frames, given, style):
    return write_traces(questions, given, style, looks=True)


def test_the_card_knows_a_reader_from_a_looker():
    card = make_card(reader, PER_KIND)
    assert [row["mean"] for row in card["look up in text"].values()] == [1.0] * (len(KINDS) + 1)
    assert card["copied"] == {"sentences": 1.0, "words": 1.0, "n": card["copied"]["n"]}
    assert card["answer from true notes"]["all"] == {"mean": 1.0, "n": len(KINDS) * PER_KIND}
    assert card["source followed"]["all"]["note"] == 1.0
    found = card["traces"]["all"]
    assert found["sufficient"] == found["grounded"] == 0.5
    assert found["exact given sufficient"] == 1.0 and found["gap"] > 0.5
    assert found["faithful"] == 1.0 and 0.15 < found["guessing"] < 0.4
    assert {name for name, part in found["true by part"].items() if part["true"] == 1.0} == {
        *("name", "size", "motion", "event", "time", "sign"),
    }
    assert card["gates"]["right from given notes, worst kind"]["reached"]
    text = format_card(card)
    assert text.startswith("One point of sufficiency is worth 0.") and text.count("\n| ") == 23

    card = make_card(looker, PER_KIND)
    assert card["source followed"]["all"]["video"] == 1.0
    assert card["traces"]["all"]["gap"] == 0.0
    assert not card["gates"]["accuracy given insufficient, above guessing"]["reached"]


def test_every_kind_has_as_many_questions():
    kinds = [question.meta["kind"] for question in card_questions(3)]
    assert all(kinds.count(kind) == 3 for kind in KINDS)


@pytest.mark.slow
def test_a_model_continues_a_given_beginning():
    """The continuation of a text that the model wrote is the rest of that text."""
    model, processor = (load("playground/teacher") for load in (load_model, load_processor))
    write = make_writer(model.float(), processor)
    questions = card_questions(1)[:3]
    whole = write(questions, [None] * 3, [""] * 3, "brief-think")
    begun = [text[: text.index(",") + 1] for text in whole]
    assert write(questions, [None] * 3, begun, "brief-think") == whole
