"""Thinking, think-answer mismatch and the 2 × 2 table, on hand-made cases."""

from __future__ import annotations

import pytest

from p2r.records import Case, Question, Trace, Verdict
from p2r.runs.recipe import load_recipe
from p2r.scoring.thoughts import mismatch, perception_by_answer, think_choice
from p2r.template import parse, render

COLOURS = ["A. red", "B. blue", "C. red circle", "D. dark blue"]
NUMBERS = ["A. 1", "B. 2", "C. 12"]


def make_case(
    text: str = render("I see red.", "So it is red.", "A"),
    accuracy: float | None = 1.0,
    sufficient: bool | None = True,
    kind: str = "multiple choice",
) -> Case:
    parsed = parse(text)
    question = Question(id="q", problem="?", options=COLOURS, problem_type=kind, answer="A")
    trace = Trace(question_id="q", text=text, think=parsed.think, answer=parsed.answer)
    verdict = Verdict(sufficient=sufficient)
    return Case(question=question, trace=trace, accuracy=accuracy, verdict=verdict)


# ---- perception x answer


def test_two_by_two_counts_unknown_separately():
    table = perception_by_answer(
        [
            make_case(),
            make_case(sufficient=False),
            make_case(accuracy=0.0),
            make_case(accuracy=None, sufficient=None),
        ]
    )
    assert table["sufficient"] == {"right": 1, "wrong": 1, "unknown": 0}
    assert table["insufficient"] == {"right": 1, "wrong": 0, "unknown": 0}
    assert table["unknown"] == {"right": 0, "wrong": 0, "unknown": 1}


# ---- mismatch


@pytest.mark.parametrize(
    ("think", "choice"),
    [
        ("Based on the observations, the ball is blue.", "B"),
        ("It may be red. No, it is blue.", "B"),
        ("It looks blue at first. So the answer is red.", "A"),
        ("The answer is (B). Red is not seen.", "B"),
        ("So the answer is B, not A.", "B"),
        ("The answer is B.", "B"),
        ("I choose option B because of the colour.", "B"),
        ("The red circle is what moves.", "C"),
        ("Dark blue it is.", "D"),
        ("Therefore it is either red or blue.", None),
        ("It is red and blue.", None),
        ("It is not red.", None),
        ("A ball rolls and stops.", None),
        ("Nothing can be said.", None),
        ("", None),
        ("The reddish and bluest things move.", None),
    ],
)
def test_option_that_thinking_ends_on(think, choice):
    assert think_choice(think, COLOURS) == choice


@pytest.mark.parametrize(
    ("think", "choice"),
    [
        ("There are 2 circles, hence 2.", "B"),
        ("I count 12 of them.", "C"),
        ("1 moves left, 1 moves right. So there are 2.", "B"),
    ],
)
def test_options_that_are_numbers(think, choice):
    assert think_choice(think, NUMBERS) == choice


def test_mismatch_if_the_answer_is_not_the_option_of_the_thinking():
    assert mismatch(make_case(render("x", "So it is red.", "B"))) is True
    assert mismatch(make_case(render("x", "So it is red.", "A"))) is False
    assert mismatch(make_case(render("x", "So it is red.", "(A) red"))) is False


def test_mismatch_is_unknown_unless_both_name_an_option():
    assert mismatch(make_case(render("x", "Hard to say.", "A"))) is None
    assert mismatch(make_case(render("x", "So it is red.", "green"))) is None
    assert mismatch(make_case("<think>So it is red.</think>")) is None
    assert mismatch(make_case("A")) is None
    assert mismatch(make_case(render("x", "So it is red.", "B"), kind="free-form")) is None


@pytest.mark.slow  # imports the training
def test_rollouts_with_a_mismatch_are_tagged():
    from p2r.training.step import Step, score
    from p2r.training.step_judge import Judged
    from p2r.training.step_metrics import rollout_metrics

    class Characters:
        def decode(self, ids, **_):
            return "".join(map(chr, ids))

    question = make_case("").question
    texts = [render("x", "So it is red.", answer) for answer in ("A", "B")]
    step = Step([question] * 2, group_size=2)
    step.texts, step.truncated = texts, [False] * 2
    step.completions = [list(map(ord, text)) for text in texts]
    score(step, Judged([None] * 2), Characters(), load_recipe("tiny").rl)
    assert [case.tags for case in step.cases] == [[], ["mismatch"]]
    assert rollout_metrics(step.cases, [[1.0, 1.0], [1.0, 0.0]], 2)["mismatch"] == 0.5


@pytest.mark.parametrize(
    ("think", "choice"),
    [
        ("The answer is B. Option A is wrong because it moves.", "B"),
        ("Not A but B. So the answer is B.", "B"),
        ("So B is correct. Option A is wrong.", "B"),
        ("The answer is B since option A shows up.", "B"),
        ("Option A is incorrect. Option B is correct.", "B"),
        ("So the answer is B<|im_end|>", "B"),
        ("So it is red. The blue one is wrong.", "A"),
        ("正确答案：B。", "B"),
        ("所以选项B。选项A是错的。", "B"),
        ("A错误，B正确。", "B"),
        ("Option B is incorrect.", None),
        ("It is both A and C.", None),
        ("The answer is A or B.", None),
    ],
)
def test_thinking_follows_the_cues_of_answers(think, choice):
    assert think_choice(think, COLOURS) == choice
