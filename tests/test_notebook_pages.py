"""Slides and pages made from the notebooks."""

import base64
import io
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
import build  # noqa: E402
import pages  # noqa: E402

pytest_plugins = ("browser_fixture",)
TEXT = (
    "# 00 · Tour\n\nIntro.\n\n**Needs** 3 min.\n\nSolutions: [there](x.ipynb).",
    "## Toy numbers\n\n**Predict:** what?\n\n### Exercise 1: write\n\nDifficulty ●○○○○",
    "**What this shows.** Two bars.\n\n## Summary\n\nThe end.",
    "<details><summary>Hint</summary>\n\nOne.\n\n</details>",
)


@pytest.fixture
def book() -> nbformat.NotebookNode:
    """A notebook with text, an exercise, a check, a figure and a hint."""
    new, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    picture = io.BytesIO()
    Image.new("RGB", (300, 100), "teal").save(picture, "PNG")
    data = {build.PLOTLY: {}, "image/png": base64.b64encode(picture.getvalue()).decode()}
    figure = nbformat.v4.new_output("display_data", data)
    cells = [
        text(TEXT[0]),
        new("SCALE = 1", metadata={"tags": ["parameters"]}),
        text(TEXT[1]),
        new("def f():\n    raise NotImplementedError", metadata={"tags": ["exercise"]}),
        new("f = checks.test_f(f)"),
        text(TEXT[3]),
        new("plots.bars(f())", outputs=[figure], execution_count=1),
        text(TEXT[2]),
        new("\n".join(f"x = {n}" for n in range(40))),
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_a_notebook_becomes_slides(book):
    deck = pages.slide_deck(book).cells
    shown = [(cell.metadata.slideshow.slide_type, cell.source.splitlines()[0]) for cell in deck]
    assert shown == [
        ("slide", "# 00 · Tour"),
        ("slide", "## Toy numbers"),
        ("subslide", "### Exercise 1: write"),
        ("-", "def f():"),
        ("subslide", "plots.bars(f())"),
        ("fragment", "**What this shows.** Two bars."),
        ("slide", "## Summary"),
    ]
    assert deck[0].source == "# 00 · Tour\n\nIntro."
    assert deck[4].metadata.transient.remove_source
    assert len(book.cells) == 9 and "slideshow" not in book.cells[0].metadata


@pytest.mark.browser
def test_slides_and_pages_open_from_disk_and_show_every_figure(book, open_page, tmp_path):
    assert pages.missing_figures(book, "<p>no picture</p>") == 1
    for name, page in (("slides", pages.to_slides(book, "a")), ("page", pages.to_html(book, "a"))):
        (tmp_path / f"{name}.html").write_text(page, encoding="utf-8")
        assert pages.missing_figures(book, page) == 0
    page = open_page((tmp_path / "page.html").as_uri())
    assert page.locator("img").evaluate_all("all => all.map(i => i.naturalWidth)") == [300]

    slides = open_page((tmp_path / "slides.html").as_uri())
    assert slides.get_by_role("heading", name="00 · Tour").is_visible()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        slides.keyboard.press(key)
    assert slides.locator("section.shown img").is_visible()
    assert not slides.get_by_text("plots.bars").is_visible()
    told = slides.get_by_text("Two bars.")
    assert not told.is_visible()
    slides.keyboard.press(" ")
    assert told.is_visible() and slides.locator("footer").inner_text() == "4 / 5"
