"""Asking about a clip: how the question is built, and how the answer is shown."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from clips import numbered
from PIL import Image

from p2r.engines.ask import ask_clip, make_question, with_headings
from p2r.errors import UserError
from p2r.runs.recipe import load_recipe
from p2r.template import lettered_options, render

RESPONSE = render("A red ball.", "It is < 2, so one.", "1")


def test_options_make_a_multiple_choice_and_get_letters():
    question = make_question("Where?", ["left", "B. right", "C. up"])
    assert question.problem_type == "multiple choice"
    assert question.options == ["A. left", "B. right", "C. up"]
    assert make_question("Where?").problem_type == "free-form"
    assert make_question("How many?", problem_type="numerical").options == []


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["E. coli", "Salmonella"], ["A. E. coli", "B. Salmonella"]),
        (["Salmonella", "E. coli"], ["A. Salmonella", "B. E. coli"]),
        (["Albert", "B. Russell"], ["A. Albert", "B. B. Russell"]),
        (["a. red", "b. blue"], ["a. red", "b. blue"]),
        (["1. red", "2. blue"], ["A. red", "B. blue"]),
    ],
)
def test_options_are_labelled_as_a_set(options, shown):
    """The shown options are those of the prompt: they get no second letter there."""
    question = make_question("Which?", options)
    assert question.options == shown == lettered_options(question.options)


@pytest.mark.parametrize(
    ("problem", "options", "kind", "said"),
    [
        ("Where?", [], "riddle", "unknown problem type 'riddle'"),
        ("Where?", [], "multiple choice", "--option"),
        ("Where?", ["left"], "numerical", "multiple choice"),
        (" ", [], None, "empty"),
        ("Where?", [f"place {k}" for k in range(27)], None, "27 options"),
    ],
)
def test_impossible_questions_are_refused(problem, options, kind, said):
    with pytest.raises(UserError, match=said):
        make_question(problem, options, kind)


def test_only_a_still_image_has_the_pixels_of_images(tmp_path):
    """An animation and a folder of pictures are videos, as in evaluation."""
    images = [Image.fromarray(numbered(number, 320, 240)) for number in range(4)]
    images[0].save(tmp_path / "still.png")
    images[0].save(tmp_path / "moving.webp", save_all=True, append_images=images[1:])
    (tmp_path / "frames").mkdir()
    for place, image in enumerate(images):
        image.save(tmp_path / "frames" / f"{place}.png")
    recipe = load_recipe("tiny", ["video.image_pixels=12544"])
    shown = {}
    for name in ("still.png", "moving.webp", "frames"):
        question = make_question("What?")
        answer = next(ask_clip(recipe, tmp_path / name, question, lambda: nullcontext()))
        shown[name] = (answer.frames.max_pixels, len(answer.frames), question.data_type)
    pixels = recipe.video.eval_pixels
    assert shown["still.png"] == (12544, 1, "image") and pixels < 12544
    assert shown["moving.webp"] == shown["frames"] == (pixels, 4, "video")


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
