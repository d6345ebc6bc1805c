"""The funnel: the step at which a case ends, and the counts per step."""

from __future__ import annotations

import pytest

from p2r.pipeline.funnel import funnel, funnel_step
from p2r.records import Case, Question, Trace, Verdict
from p2r.template import parse, render


def make_case(
    text: str = render("I see red.", "So it is red.", "A"),
    accuracy: float | None = 1.0,
    sufficient: bool | None = True,
) -> Case:
    parsed = parse(text)
    options = ["A. red", "B. blue"]
    question = Question(
        id="q", problem="?", options=options, problem_type="multiple choice", answer="A"
    )
    trace = Trace(question_id="q", text=text, think=parsed.think, answer=parsed.answer)
    verdict = Verdict(sufficient=sufficient)
    return Case(question=question, trace=trace, accuracy=accuracy, verdict=verdict)


@pytest.mark.parametrize(
    ("case", "step"),
    [
        (make_case(), "kept"),
        (make_case(sufficient=False), "right answer"),
        (make_case(sufficient=None), "verdict unknown"),
        (make_case(accuracy=0.59), "on template"),
        (make_case(accuracy=0.6), "kept"),
        (make_case(accuracy=None), "answer unknown"),
        (make_case(text="A"), "generated"),
        (make_case(text=render("a", "b", "A") + " <b>"), "generated"),
    ],
)
def test_a_case_ends_at_the_first_step_it_fails(case, step):
    assert funnel_step(case) == step


def test_a_note_about_the_text_is_no_fault():
    """A foreign tag inside a segment breaks no process: the trace is on the template."""
    assert funnel_step(make_case(text=render("I see <i>red.", "So red.", "A"))) == "kept"


def test_funnel_counts_every_step_passed_and_unknowns_apart():
    ends = ["kept", "kept", "right answer", "on template", "generated", "verdict unknown"]
    steps = [("OCR", end) for end in ends] + [("numerical", "unreadable")]
    table = funnel(steps)
    assert table["OCR"] == {
        "generated": 6,
        "on template": 5,
        "right answer": 4,
        "sufficient observation": 2,
        "kept": 2,
        "unreadable": 0,
        "answer unknown": 0,
        "verdict unknown": 1,
    }
    assert table["numerical"]["generated"] == 0 and table["numerical"]["unreadable"] == 1
    assert table["all"]["generated"] == 6 and table["all"]["unreadable"] == 1


def test_funnel_of_nothing():
    assert set(funnel([])["all"].values()) == {0}
