"""The card of a model: what it says of writers whose skills are known."""

import json
import random

import pytest

from p2r.data import load_model, load_processor
from p2r.playground import card as cards
from p2r.playground.card import (
    card_questions,
    format_card,
    group_skill,
    habit_card,
    make_card,
    make_writer,
)
from p2r.playground.gates import LEAST, LEAST_GROUPS, LEAST_PER_KIND, gates
from p2r.playground.second.chapters import scene_from_dict
from p2r.playground.second.examples import repeat
from p2r.playground.second.habits import describe
from p2r.playground.second.questions import KINDS, notice
from p2r.playground.second.thinking import think_from
from p2r.runs.recipe import load_recipe
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
    assert card["answer from true notes"]["all"] == {
        "mean": 1.0, "low": 1.0, "high": 1.0, "n": len(KINDS) * PER_KIND
    }  # fmt: skip
    assert card["source followed"]["all"]["note"] == 1.0
    found = card["traces"]["all"]
    assert found["sufficient"] == found["grounded"] == 0.5
    assert found["exact given sufficient"] == 1.0 and found["gap"] > 0.5
    assert found["faithful"] == 1.0 and 0.15 < found["guessing"] < 0.4
    assert {name for name, part in found["true by part"].items() if part["true"] == 1.0} == {
        *("name", "size", "motion", "event", "time", "sign"),
    }
    gate = card["gates"]["right from given notes, worst kind"]
    assert gate["reached"] and gate["state"] == "open: too few questions" and gate["n"] == PER_KIND
    text = format_card(card)
    assert text.startswith("One point of sufficiency is worth 0.") and text.count("\n| ") == 24

    card = make_card(looker, PER_KIND)
    assert card["source followed"]["all"]["video"] == 1.0
    assert card["traces"]["all"]["gap"] == 0.0
    assert not card["gates"]["accuracy given insufficient, above guessing"]["reached"]


def test_an_interrupted_card_continues_with_the_missing_parts(tmp_path):
    file = tmp_path / "card.json"
    asked = []

    def dies_at_the_traces(questions, frames, given, style):
        asked.append(style)
        if style == "brief" and not given[0]:
            raise KeyboardInterrupt
        return reader(questions, frames, given, style)

    with pytest.raises(KeyboardInterrupt):
        make_card(dies_at_the_traces, 1, file=file, made={"model": "a"})
    assert asked == ["brief-think", "direct", "brief", "brief", "brief"]

    def only_traces(questions, frames, given, style):
        assert style == "brief" and not given[0]
        return reader(questions, frames, given, style)

    card = make_card(only_traces, 1, file=file, made={"model": "a"})
    assert json.loads(file.read_text())["top line"] == card["top line"]
    with pytest.raises(AssertionError):  # the parts of another model do not count
        make_card(only_traces, 1, file=file, made={"model": "b"})


def test_gates_are_passed_open_or_not_asked():
    table = {kind: {"mean": 0.97, "low": 0.9, "high": 1.0, "n": 100} for kind in KINDS}
    number = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 1000}
    traces = {
        "n": 1000,
        "intervals": {"faithful": number, "sufficient": number, "above guessing": number},
    }
    card = {"look up in text": table, "traces": {"all": traces}}
    states = [gate["state"] for gate in gates(card).values()]
    assert states == ["passed", "open", "open", "not asked", "not asked"]
    card["groups"] = {"perception": number}
    states = [gate["state"] for gate in gates(card).values()]
    assert states == ["passed", "open", "open", "passed", "passed"]


def test_a_card_asks_enough_to_pass_every_gate():
    assert cards.GROUPS_PER_KIND * len(KINDS) >= LEAST_GROUPS
    assert cards.PER_KIND >= LEAST_PER_KIND and cards.PER_KIND * len(KINDS) >= LEAST


def test_a_habit_has_a_card_without_a_model():
    """Mismatch, luck and sufficient observations with a false sentence have rates above 0."""
    found = habit_card("careless", 60)["traces"]["all"]
    assert 0 < found["mismatch"] < 0.3
    assert found["exact given insufficient"] > found["guessing"] + 0.05
    assert 0.8 < found["faithful"] < 0.99
    assert found["sufficient"] > found["sufficient and true"]
    assert habit_card("targeted", 1)["traces"]["all"]["exact"] == 1.0


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
    rl = load_recipe("tiny", ["rl.group_size=2", "rl.max_tokens=8"]).rl
    found = group_skill(model, processor, rl, questions)
    assert found["perception"]["n"] == 3 and 0 <= found["perception"]["mean"] <= 1
    assert found == group_skill(model, processor, rl, questions)
