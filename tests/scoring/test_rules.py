"""Accuracy by problem type, and mean relative accuracy."""

import json

import numpy as np
import pytest
from measures import shared_data
from rouge_score.rouge_scorer import RougeScorer

from p2r.records import PROBLEM_TYPES
from p2r.scoring import accuracy, mra

OPTIONS = ["A. left", "B. right"]

# ---- all problem types

GOLD = {
    "multiple choice": "B",
    "numerical": "3.5",
    "OCR": "Stop here!",
    "free-form": "A dog runs.",
    "regression": "0",
}


@pytest.mark.parametrize("kind", PROBLEM_TYPES)
def test_the_reference_answer_scores_one_with_and_without_tags(kind):
    gold = GOLD[kind]
    for prediction in (
        gold,
        f"<answer>{gold}</answer>",
        f"<think>Hm.</think><answer>{gold}\n</answer>",
    ):
        for truth in (gold, f"<answer>{gold}</answer>", f" <answer>\n{gold}\n</answer>\n"):
            assert accuracy(kind, prediction, truth, OPTIONS) == 1.0


@pytest.mark.parametrize("kind", PROBLEM_TYPES)
@pytest.mark.parametrize("prediction", [None, "", " \n", "<answer></answer>", "<think>cut off"])
def test_a_missing_answer_is_wrong(kind, prediction):
    assert accuracy(kind, prediction, GOLD[kind], OPTIONS) == 0.0


@pytest.mark.parametrize("kind", ["multiple choice", "numerical", "regression"])
@pytest.mark.parametrize("prediction", ["?", "I cannot tell.", "both of them"])
def test_an_unreadable_answer_is_wrong(kind, prediction):
    assert accuracy(kind, prediction, GOLD[kind], OPTIONS) == 0.0


@pytest.mark.parametrize(
    ("kind", "truth"),
    [
        ("multiple choice", "E"),  # no option has this letter
        ("multiple choice", "diagonally"),
        ("multiple choice", ""),
        ("numerical", "many"),
        ("numerical", "3 to 5"),
        ("regression", "nan"),
        ("free-form", ""),
        ("free-form", None),
        ("OCR", None),
        ("essay", "anything"),
        ("Multiple Choice", "A"),
    ],
)
def test_an_answer_that_cannot_be_scored_is_unknown_not_zero(kind, truth):
    assert accuracy(kind, "A", truth, OPTIONS) is None
    assert accuracy(kind, None, truth, OPTIONS) is None


# ---- multiple choice


@pytest.mark.parametrize("truth", ["A", "A.", "(A)", "a", "A. left", "left", "<answer>A</answer>"])
@pytest.mark.parametrize("prediction", ["A", "(a)", "A. left", "Left.", "The answer is A."])
def test_choice_and_truth_by_letter_or_text(prediction, truth):
    assert accuracy("multiple choice", prediction, truth, OPTIONS) == 1.0
    assert accuracy("multiple choice", "B", truth, OPTIONS) == 0.0


def test_several_letters_are_wrong():
    assert accuracy("multiple choice", "A and B", "A", OPTIONS) == 0.0
    assert accuracy("multiple choice", "A. right", "A", OPTIONS) == 0.0


def test_options_without_prefixes_have_letters_by_position():
    assert accuracy("multiple choice", "b", "right", ["left", "right"]) == 1.0


def test_letters_are_scored_without_options():
    assert accuracy("multiple choice", "(C)", "C") == 1.0
    assert accuracy("multiple choice", "left", "left") is None  # which letter would be right?


# ---- numbers


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        ("0", "0"),
        ("5.0", "5"),
        ("1,000", "1000"),
        ("50%", "50"),
        ("50", "50%"),
        ("50%", "0.5"),
        ("0.5", "50%"),
        ("$5", "5"),
        ("5 apples", "5"),
        ("five", "5"),
        ("1/2", "0.5"),
        ("1e3", "1000"),
        ("−5", "-5"),
        ("5\n", "5"),
        ("0.1", "1/10"),
        (5, "5"),
        (5.0, 5),
        ("3.43", "3.429"),  # rounded to two decimals
        ("3.14159", "3.14"),
        ("12.970", "12.97"),
    ],
)
def test_the_same_number(prediction, truth):
    assert accuracy("numerical", prediction, truth) == 1.0


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        ("6", "5"),
        ("-5", "5"),
        ("0.5", "50"),
        ("100%", "1%"),
        ("12.914", "12.97"),
        ("0.00", "0.004"),  # rounded away
        ("0.01", "0.014"),  # one significant digit
        ("5", "5.004"),
        ("5.001", "5"),
        ("12.9", "12.94"),  # one decimal
        ("5 or 6", "5"),
        ("B", "5"),
    ],
)
def test_another_number(prediction, truth):
    assert accuracy("numerical", prediction, truth) == 0.0


@pytest.mark.parametrize(
    ("prediction", "truth", "score"),
    [
        ("100", "100", 1.0),
        ("90", "100", 0.9),
        ("110", "100", 0.9),
        ("-5", "-10", 0.5),
        ("-5", "5", 0.0),
        ("300", "100", 0.0),
        ("0", "0", 1.0),
        ("0.0", "0", 1.0),
        ("1", "0", 0.0),
        ("0.001", "0", 0.0),
        ("0", "5", 0.0),
        ("50%", "0.5", 1.0),
        ("about 95 cm", "100", 0.95),
    ],
)
def test_regression_is_one_minus_the_relative_error(prediction, truth, score):
    assert accuracy("regression", prediction, truth) == pytest.approx(score)


# ---- texts


@pytest.mark.parametrize(
    ("prediction", "truth", "score"),
    [
        ("STOP", "stop", 1.0),
        ("'Stop!'", "Stop", 1.0),
        ("Hello, World", "hello world", 1.0),
        ("stop here", "stop  \n here", 1.0),
        ("ＳＴＯＰ", "stop", 1.0),
        ("hello wold", "hello world", 0.5),
        ("one two three four", "one", 0.0),  # three insertions in one word: clipped
        ("$5", "5", 0.0),
        ("don't", "dont", 0.0),
        ("世界", "世界", 1.0),
        ("世间", "世界", 0.5),  # no spaces: each character is a word
        ("&", "&", 1.0),
        ("&", "#", 0.0),
        ("", "", 1.0),
        ("x", "", 0.0),
        (None, "", 0.0),
    ],
)
def test_ocr_is_one_minus_the_word_error_rate(prediction, truth, score):
    assert accuracy("OCR", prediction, truth) == pytest.approx(score)


def test_free_form_is_the_mean_of_three_rouge_scores_by_hand():
    # unigrams 2 of 3 and 2 of 2 → F 0.8; bigrams 0; longest common subsequence 2 → F 0.8
    assert accuracy("free-form", "dog cat", "dog red cat") == pytest.approx((0.8 + 0 + 0.8) / 3)


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        ("The man is walking a dog.", "A man walks his dog in the park"),
        ("It's red, isn't it?", "It is red"),
        ("A_b-c", "a b c d"),
    ],
)
def test_latin_text_scores_as_in_video_r1(prediction, truth):
    scores = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(truth, prediction)
    expected = sum(score.fmeasure for score in scores.values()) / 3
    assert accuracy("free-form", prediction, truth) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["dog", "世界", "世", "→", "?!", "Привет мир", "café", "😀", "مرحبا", "5"]
)
def test_any_text_is_itself(text):
    assert accuracy("free-form", text, text) == 1.0
    assert accuracy("OCR", text, text) == 1.0
    assert accuracy("free-form", "something else", text) == 0.0


# ---- real predictions, scored by others


def test_logged_rewards_of_videommmu_are_reproduced_item_by_item():
    log = json.loads((shared_data("predictions") / "videommmu_videorft-3b.json").read_text())
    scores = []
    for item in log["items"]:
        question = item["problem_type"], item["truth"], item["options"]
        kind, truth, options = question
        score = accuracy(kind, item["logged_prediction"], truth, options)
        assert score == accuracy(kind, item["output"], truth, options) == item["logged_reward"]
        assert accuracy(kind, truth, truth, options) == 1.0
        scores.append(score)
    assert len(scores) == log["n"]
    assert np.mean(scores) == pytest.approx(log["accuracy"], abs=1e-6)


def test_logged_scores_of_mmvu_differ_only_if_tags_were_kept():
    log = json.loads((shared_data("predictions") / "mmvu_qwen2.5-vl-7b.json").read_text())
    scores = {
        item["problem_id"]: accuracy("multiple choice", item["output"], item["truth"])
        for item in log["items"]
    }
    logged = {item["problem_id"]: item["logged_score"] for item in log["items"]}
    assert 100 * np.mean(list(logged.values())) == pytest.approx(log["accuracy"])
    # these two answers are right, but the log compared them together with their tags
    assert {name for name in scores if scores[name] != logged[name]} == {101, 344}
    assert sum(scores.values()) == 411


# ---- mean relative accuracy


def test_mra_counts_thresholds():
    assert mra("100", "100") == 1.0
    assert mra("50", "100") == 0.1
    assert mra("70", "100") == 0.5  # error 0.3: thresholds 0.50, 0.55, 0.60, 0.65, 0.70
    assert mra("93", "100") == 0.9
    assert mra("40", "100") == 0.0
    assert mra("0", "0") == 1.0
    assert mra("1", "0") == 0.0


def test_mra_of_unreadable_numbers():
    assert mra("no idea", "5") == 0.0
    assert mra(None, "5") == 0.0
    assert mra("5", "no number") is None


def official_mra(prediction: float, truth: float) -> float:
    """Return MRA as published: (end - start) / interval + 2 points, which truncates to ten."""
    thresholds = np.linspace(0.5, 0.95, int((0.95 - 0.5) / 0.05 + 2))
    return float((abs(prediction - truth) / abs(truth) <= 1 - thresholds).mean())


def test_mra_reproduces_the_official_code_in_its_arithmetic():
    for truth in range(1, 41):
        for prediction in range(61):
            assert mra(prediction, truth) == official_mra(prediction, truth)
