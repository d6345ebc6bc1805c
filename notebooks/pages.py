"""Pages from the notebooks: slides to teach with, and HTML to read. Both open without network.

`notebooks/build.py --slides` and `--html` call the functions here.
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path

import nbformat

TEMPLATES = str(Path(__file__).parent / "templates")
PLOTLY = "application/vnd.plotly.v1+json"
LONGEST_CODE = 14  # lines of a code cell on a slide
# The parts of a notebook that a slide does not need.
_NOT_SHOWN = ("**Needs**", "Solutions: ")


def to_html(book: nbformat.NotebookNode, title: str) -> str:
    """Return a notebook as a page."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="page", extra_template_basedirs=[TEMPLATES])
    return exporter.from_notebook_node(book, _named(title))[0]


def to_slides(book: nbformat.NotebookNode, title: str) -> str:
    """Return a notebook as slides."""
    from nbconvert import SlidesExporter

    exporter = SlidesExporter(template_name="slides", extra_template_basedirs=[TEMPLATES])
    return exporter.from_notebook_node(slide_deck(book), _named(title))[0]


def _named(title: str) -> dict[str, dict[str, str]]:
    return {"metadata": {"name": title}}


def slide_deck(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a copy whose cells are marked for slides.

    A `##` heading, a `###` heading and a code cell begin a slide, and "What this shows" appears
    with the next key. Left out are hints, checks, parameters and long code. Code whose output is a
    figure shows only the figure.
    """
    deck = nbformat.v4.new_notebook(metadata=book.metadata)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            for part in re.split(r"^(?=#{1,3} |\*\*What this shows)", cell.source, flags=re.M):
                text = _without_needs(part)
                if text:
                    deck.cells.append(_slide(nbformat.v4.new_markdown_cell(text), _kind(text)))
        elif _is_shown(cell):
            made = deepcopy(cell)
            exercise = "exercise" in cell.metadata.get("tags", [])
            if _figures(cell):
                made.metadata["transient"] = {"remove_source": True}
            deck.cells.append(_slide(made, "-" if exercise else "subslide"))
    return deck


def _without_needs(text: str) -> str:
    """Return a text without hints, and without the paragraphs for readers of the notebook."""
    if text.startswith("<details>"):
        return ""
    parts = re.split(r"\n\n+", text.strip())
    return "\n\n".join(part for part in parts if not part.startswith(_NOT_SHOWN))


def _kind(text: str) -> str:
    if text.startswith(("# ", "## ")):
        return "slide"
    if text.startswith("### "):
        return "subslide"
    return "fragment" if text.startswith("**What this shows") else "-"


def _slide(cell: nbformat.NotebookNode, kind: str) -> nbformat.NotebookNode:
    cell.metadata["slideshow"] = {"slide_type": kind}
    return cell


def _is_shown(cell: nbformat.NotebookNode) -> bool:
    if "exercise" in cell.metadata.get("tags", []) or _figures(cell):
        return True
    lines = cell.source.splitlines()
    if "checks.test_" in cell.source or "parameters" in cell.metadata.get("tags", []):
        return False
    return "workshop.begin" not in cell.source and 0 < len(lines) <= LONGEST_CODE


def _figures(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Return the outputs of a cell that hold a figure or a picture."""
    if cell.cell_type != "code":
        return []
    kinds = {PLOTLY, "image/png"}
    return [output for output in cell.outputs if kinds & output.get("data", {}).keys()]


def missing_figures(book: nbformat.NotebookNode, page: str) -> int:
    """Return how many figures of a notebook a page does not show."""
    figures = sum(len(_figures(cell)) for cell in book.cells)
    return figures - len(re.findall(r"<img[^>]+src=\"?data:image/png;base64,\w", page))
