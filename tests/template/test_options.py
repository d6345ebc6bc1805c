"""Options: labels, texts, and the letters that a prompt shows."""

import pytest

from p2r.records import Question
from p2r.template import build_prompt, lettered_options, option_texts

TWO = {"A": "left", "B": "right"}


LABELS = """
A. B.|A) B)|(A) (B)|[A] [B]|A: B:|a. b.|(a) (b)|A、 B、|Ａ． Ｂ．|1. 2.|1) 2)|(1) (2)|[1] [2]
① ②|⑴ ⑵|I. II.|(i) (ii)|i) ii)|Ⓐ Ⓑ"""


@pytest.mark.parametrize("labels", LABELS.strip().replace("\n", "|").split("|"))
def test_labels_in_order_are_no_part_of_the_text(labels):
    first, second = labels.split()
    assert option_texts([f"{first} left", f"{second} right"]) == TWO


@pytest.mark.parametrize("label", ["Option {}: ", "Choice {}. ", "选项{}：", "{} - "])
def test_labels_with_a_word_or_a_dash(label):
    assert option_texts([label.format("A") + "left", label.format("B") + "right"]) == TWO


@pytest.mark.parametrize(
    "options",
    [
        ["S. aureus", "E. coli", "B. subtilis", "P. putida"],
        ["J. Smith", "K. Jones", "L. Brown"],
        ["B. left", "C. right"],
        ["B. left", "A. right"],
        ["2. left", "1. right"],
        ["1.5 m", "2.5 m"],
        ["A. Jones", "nobody"],
        ["I. Newton", "V. Woolf"],
        ["A man", "B movie"],
    ],
)
def test_other_beginnings_belong_to_the_text(options):
    assert list(option_texts(options).values()) == options
    shown = [f"{letter}. {text}" for letter, text in zip("ABCD", options, strict=False)]
    assert lettered_options(options) == shown


def test_some_options_may_have_no_letter():
    options = ["A. left", "B. right", "none of them"]
    assert option_texts(options) == {**TWO, "C": "none of them"}
    assert lettered_options(options) == ["A. left", "B. right", "C. none of them"]


@pytest.mark.parametrize("options", [["A. left", "B. right"], ["(a) left", "(b) right"], []])
def test_options_with_letters_in_order_are_shown_unchanged(options):
    assert lettered_options(options) == options


@pytest.mark.parametrize("label", ["", "A. "])
def test_options_after_the_26th_stay_without_a_letter(label):
    options = [f"{label}place {k}" for k in range(28)]
    shown = lettered_options(options)
    assert shown[25:] == [f"Z. {options[25]}", *options[26:]]
    assert lettered_options(shown) == shown


def test_a_prompt_shows_a_letter_for_every_option():
    options = ["S. aureus", "E. coli"]
    question = Question(
        id="q", problem="Which?", options=options, problem_type="multiple choice", answer="B"
    )
    assert "Which?\nA. S. aureus\nB. E. coli\n" in build_prompt(question)
    question = question.model_copy(update={"options": ["① left", "② right"]})
    assert "Which?\nA. left\nB. right\n" in build_prompt(question)
