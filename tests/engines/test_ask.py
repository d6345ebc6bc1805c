"""Asking about a clip: how the question is built, and how the answer is shown."""

from __future__ import annotations

import pytest

from p2r.engines.ask import make_question, with_headings
from p2r.errors import UserError
from p2r.template import render

RESPONSE = render("A red ball.", "It is < 2, so one.", "1")


def test_options_make_a_multiple_choice_and_get_letters():
    question = make_question("Where?", ["left", "B. right"])
    assert question.problem_type == "multiple choice"
    assert question.options == ["A. left", "B. right"]
    assert make_question("Where?").problem_type == "free-form"
    assert make_question("How many?", problem_type="numerical").options == []


@pytest.mark.parametrize(
    ("problem", "options", "kind", "said"),
    [
        ("Where?", [], "riddle", "unknown problem type 'riddle'"),
        ("Where?", [], "multiple choice", "--option"),
        ("Where?", ["left"], "numerical", "multiple choice"),
        (" ", [], None, "empty"),
    ],
)
def test_impossible_questions_are_refused(problem, options, kind, said):
    with pytest.raises(UserError, match=said):
        make_question(problem, options, kind)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_segments_get_headings_for_pieces_of_any_size(size):
    pieces = [RESPONSE[i : i + size] for i in range(0, len(RESPONSE), size)]
    shown = "".join(with_headings(pieces))
    words = " ".join(shown.split())
    assert words == "Observation A red ball. Think It is < 2, so one. Answer 1"


def test_words_are_shown_before_the_response_ends():
    shown = list(with_headings(["<observation>A red", " ball", " rolls"]))
    assert "A red" in "".join(shown[:3])


def test_problems_with_the_template_are_named():
    shown = "".join(with_headings(["<observation>A ball"]))
    assert "observation unclosed" in shown and "answer missing" in shown
    assert "(does not follow the template" not in "".join(with_headings([RESPONSE]))
