"""The official rules and the robust rule, on outputs with known scores."""

from __future__ import annotations

import pytest
from measures import growth

from p2r.evaluation.benchmark import Asked, Item
from p2r.evaluation.benchmarks import all_benchmarks
from p2r.evaluation.benchmarks.tempcompass import read_caption, read_yes_no
from p2r.evaluation.rules import match_like_video_r1, mra_of, read_option
from p2r.evaluation.score import score_item

OPTIONS = ["A. red ball", "B. left", "C. blue", "D. none"]
REASONED = "<observation>I see A and C.</observation> <think>So B.</think><answer>{}</answer>"


def scored(benchmark: str, output: str, truth: str = "B", **fields) -> Item:
    kind = fields.pop("kind", "multiple choice")
    item = Item("q", output, truth, kind, fields.pop("options", OPTIONS), **fields)
    score_item(benchmark, item)
    return item


@pytest.mark.parametrize(
    ("benchmark", "output", "official", "robust"),
    [
        ("mmvu", "B", 1, 1),
        ("mmvu", "<answer>B</answer>", 1, 1),  # Video-R1 reads the tag without reasoning, too
        ("mmvu", "B. left", 0, 1),
        ("mmvu", REASONED.format("B"), 1, 1),
        ("mmvu", REASONED.format("(B)"), 0, 1),
        ("vcrbench", "B", 1, 1),
        ("vsibench", "B.", 1, 1),
        ("vsibench", "b left", 1, 1),
        ("vsibench", "(B)", 0, 1),
        ("vsibench", "B\nleft", 0, 1),
        (
            "vsibench",
            "I turn left. <answer>B</answer>",
            0,
            1,
        ),  # no reasoning segment
        ("mvbench", "<answer>B</answer>", 0, 1),
        ("mvbench", "(B) left", 1, 1),
        ("mvbench", "B. left", 1, 1),
        ("mvbench", "b", 1, 1),
        ("mvbench", "The answer is B", 0, 1),
        ("mvbench", "It is (B)", 0, 1),
        ("videommmu", "The answer is B.", 1, 1),
        ("videommmu", REASONED.format("B"), 1, 1),
        ("videommmu", REASONED.format("B."), 0, 1),
        ("videomme", "The best answer is B", 1, 1),
        ("videomme", "Based on it, C", 1, 0),  # the B of "Based"
        ("videomme", "B", 1, 1),
        ("videomme", REASONED.format("B"), 1, 1),  # not the A in the observation
        ("videomme", "<think>So B is", 0, 0),  # reasons and gives no answer
        # Only the closing tag: some chat templates put the opening tag into the prompt.
        ("videomme", "I see A and C. So B.</think><answer>B</answer>", 1, 1),
        ("videommmu", "I see A and C. So B.</think><answer>B</answer>", 1, 1),
        ("mvbench", "I see A and C. So B.</think><answer>(B)</answer>", 1, 1),
        # No answer tag: the text after the thinking.
        ("videomme", "I see A and C. So B.</think>\n\nB", 1, 1),
        ("videommmu", "<think>I see A and C. So B.</think>B", 1, 1),
        ("videomme", "I see A and C. So B.</think>", 0, 0),
    ],
)
def test_choices(benchmark, output, official, robust):
    item = scored(benchmark, output)
    assert (item.score["official"], item.score["robust"]) == (official, robust)


def test_videomme_leaves_out_outputs_without_a_letter():
    item = scored("videomme", "I cannot say.")
    assert item.score["official"] is None and item.extraction["official"] is None
    assert item.score["robust"] == 0.0


def test_an_empty_answer_is_right_only_in_the_script_of_mvbench():
    for benchmark in all_benchmarks():
        item = scored(benchmark, " ")
        assert (item.score["official"] == 1.0) == (benchmark == "mvbench"), benchmark
        assert item.score["robust"] == 0.0 and item.extraction["robust"] is None


@pytest.mark.parametrize(
    ("output", "official", "robust"),  # error 0.25: the border counts
    [("4", 1, 1), ("4 m", 1, 1), ("4.", 1, 1), ("about 4", 0, 1), ("four", 0, 1), ("3", 0.6, 0.6)],
)
def test_vsibench_numbers(output, official, robust):
    item = scored("vsibench", output, "4", kind="regression", options=[])
    assert (item.score["official"], item.score["robust"]) == (official, robust)


def test_mra_conventions_on_hand_made_numbers():
    """An error of 0.25 passes the thresholds up to 0.75. The last one needs the border."""
    assert mra_of(3, 4) == 0.6 and mra_of(3, 4, "strict") == 0.5
    assert mra_of(3, 4, "eleven") == pytest.approx(6 / 11)
    at_the_border = [mra_of(50, 100, name) for name in ("official", "strict", "eleven")]
    assert at_the_border == pytest.approx([0.1, 0.0, 1 / 11])
    assert mra_of(4, 4) == 1.0 and mra_of(9, 4) == 0.0 and mra_of(1, 0) is None


@pytest.mark.parametrize(
    ("answer", "truth", "kind", "right"),
    [
        ("5", "5", "numerical", 1),
        ("5.0", "5", "numerical", 0),
        ("1,000", "1000", "numerical", 0),
        ("3.43", "3.429", "numerical", 1),
        ("x", "3", "numerical", 0),
        (" B ", "B", "multiple choice", 1),
        ("b", "B", "multiple choice", 0),
        ("3", "4", "regression", 0.5),
        ("word", "word", "OCR", 0),
    ],
)
def test_video_r1_rule(answer, truth, kind, right):
    asked = Asked(truth, kind, (), "", truth if kind == "multiple choice" else None)
    assert match_like_video_r1(answer, asked) == right


def test_options_with_one_text_are_one_answer():
    for truth, said in (("C", "A"), ("C", "C"), ("A", "C")):
        item = scored("mmvu", said, truth, options=["A. left", "B. up", "C. left"])
        assert item.score["robust"] == 1.0
    assert scored("mmvu", "A", "C", options=["A. ", "B. ", "C. "]).score["robust"] == 0.0


# ---- TempCompass

MC = ["A. red", "B. left"]
CAPTIONS = ["Option 1: It rolls.", "Option 2: It: flies."]


@pytest.mark.parametrize(
    ("task", "truth", "output", "official", "robust"),
    [
        ("multi-choice", "B. left", "B", 1, 1),
        ("multi-choice", "B. left", "B) no matter", 1, 1),
        ("multi-choice", "B. left", "B. left</s>", 1, 1),
        ("multi-choice", "B. left", " B", 1, 1),
        ("multi-choice", "B. left", "\nB. left </s>", 1, 1),
        ("multi-choice", "B. left", "left", 0, 1),
        ("multi-choice", "B. left", "A. red", 0, 0),
        ("yes_no", "no", "No, it is not", 1, 1),
        ("yes_no", "no", "Nothing moves", 1, 0),
        ("yes_no", "yes", "I think yes", 0, 1),
        ("caption_matching", CAPTIONS[0], "Option 1", 1, 1),
        ("caption_matching", CAPTIONS[0], "Option 1.", 1, 1),
        ("caption_matching", CAPTIONS[0], "1.", 1, 1),
        ("caption_matching", CAPTIONS[1], "1", 0, 0),
        ("caption_matching", CAPTIONS[0], "It rolls.", 1, 1),
        ("caption_matching", CAPTIONS[0], "I take option 1", 0, 1),
        ("caption_matching", CAPTIONS[1], "It: flies.", 0, 1),  # cut at the second colon
        ("caption_matching", CAPTIONS[0], "Option 2: It: flies.", 0, 0),
        ("captioning", "B. left", "It goes left", None, None),
    ],
)
def test_tempcompass(task, truth, output, official, robust):
    options = {"multi-choice": MC, "caption_matching": CAPTIONS}.get(task, [])
    kind = "multiple choice" if options else "free-form"
    item = scored("tempcompass", output, truth, kind=kind, options=options, parts={"task": task})
    assert (item.score["official"], item.score["robust"]) == (official, robust)


def test_a_stored_rating_counts_only_if_no_rule_matches():
    fields = {"options": MC, "parts": {"task": "multi-choice"}}
    assert scored("tempcompass", "left", "B. left", stored={"rating": 1.0}, **fields).score == {
        "official": 1.0,
        "robust": 1.0,
    }
    assert (
        scored("tempcompass", "A", "B. left", stored={"rating": 1.0}, **fields).score["official"]
        == 0.0
    )
    caption = {"options": [], "kind": "free-form", "parts": {"task": "captioning"}}
    rated = scored("tempcompass", "It goes left", "B. left", stored={"rating": 1.0}, **caption)
    assert rated.score == {"official": 1.0, "robust": 1.0}


# ---- the robust reading


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B. left", "B"),
        ("left", "B"),
        ("It may be red ball at first. Looking again it turns. So the answer is left.", "B"),
        ("It may be A or B.", None),
        ("", None),
    ],
)
def test_option_of_an_answer(answer, letter):
    assert read_option(answer, OPTIONS) == letter


def test_yes_or_no():
    assert read_yes_no("Yes.") == "yes" and read_yes_no("It is no rabbit, so no") == "no"
    assert read_yes_no("yes and no? no") == "yes" and read_yes_no("not sure") is None
    assert read_yes_no("Is it yes or no") is None


def test_caption_by_name_letter_or_text():
    assert read_caption("Option 2", CAPTIONS) == CAPTIONS[1]
    assert read_caption("2", CAPTIONS) == CAPTIONS[1]
    assert read_caption("It rolls", CAPTIONS) == CAPTIONS[0]
    assert read_caption("Option 1 or option 2", CAPTIONS) is None


@pytest.mark.parametrize("word", ["so ", "the answer is ", "A B ", "not B ", "<think>", "(", "1 "])
def test_long_answers_take_linear_time(word):
    def score(text: str) -> None:
        for benchmark in ("videomme", "videommmu", "mvbench"):
            scored(benchmark, text)

    assert growth(score, word * (2000 // len(word)), word * (16000 // len(word))) < 24
