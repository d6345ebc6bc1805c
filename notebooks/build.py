"""Writes the notebooks from their sources: one source gives a notebook to work in and its solution.

    python notebooks/build.py             # write notebooks/*.ipynb and notebooks/solutions/*.ipynb
    python notebooks/build.py --check     # exit code 1 if a notebook is not up to date
    python notebooks/build.py --execute 06_from_scratch       # run it, keep outputs and pictures
    python notebooks/build.py --slides    # slides to teach with: build/pages/NAME.slides.html
    python notebooks/build.py --html      # pages to read; exit code 1 if one misses a figure

A source, `notebooks/source/NAME.py`, is a Python file in the percent format. A line `# %% [KIND]`
begins a cell:

| kind       | cell                                                                               |
|------------|------------------------------------------------------------------------------------|
| (none)     | code, in both notebooks                                                            |
| define     | code that only imports and defines; tests run these cells without a notebook       |
| parameters | the first code cell: SCALE, SEED, RUN and more settings                            |
| exercise   | code with a gap, in the learner's notebook only                                    |
| solution   | code without the gap, in the solution only; it follows its exercise                |
| markdown   | text, as comment lines, in both                                                    |
| hint       | text that is folded until the reader opens it, in both                             |
| sample     | a sample answer to an open exercise: text, as comment lines, in the solution only  |

Cells keep their outputs up to the first code cell that changed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

FOLDER = Path(__file__).parent
SOURCES = FOLDER / "source"
SOLUTIONS = FOLDER / "solutions"
PAGES = FOLDER.parent / "build" / "pages"
MEASURED = FOLDER / "measured.json"  # seconds and megabytes of every notebook, by --execute
KINDS = ("code", "define", "parameters", "exercise", "solution", "markdown", "hint", "sample")
TEXT = ("markdown", "hint", "sample")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
PLOTLY, WIDGET = "application/vnd.plotly.v1+json", "application/vnd.jupyter.widget-view+json"
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_MARK = re.compile(r"# %%(?: \[(\w+)\])?\s*")
_MINUTES = re.compile(r"^Difficulty .* · (\d+) minutes?$", re.MULTILINE)


@dataclass(frozen=True)
class Cell:
    """One cell of a source. `text` has no comment marks."""

    kind: str
    text: str
    number: int


def source_names() -> list[str]:
    """Return the names of all notebooks that have a source, in order."""
    return sorted(path.stem for path in SOURCES.glob("*.py"))


def read_source(name: str) -> list[Cell]:
    """Read the cells of a source; raise ValueError for an unknown kind or a lone solution."""
    parts: list[tuple[str, list[str]]] = []
    for line in (SOURCES / f"{name}.py").read_text(encoding="utf-8").splitlines():
        if mark := _MARK.fullmatch(line):
            parts.append((mark[1] or "code", []))
        elif parts:
            parts[-1][1].append(line)
    cells = []
    for number, (kind, lines) in enumerate(parts):
        if kind not in KINDS:
            raise ValueError(f"{name}: unknown kind of cell {kind!r}: use one of {KINDS}")
        if kind == "solution" and (not cells or cells[-1].kind != "exercise"):
            raise ValueError(f"{name}: cell {number} is a solution without an exercise before it")
        if kind in TEXT:
            lines = [re.sub(r"^# ?", "", line) for line in lines]
        cells.append(Cell(kind, "\n".join(lines).strip("\n"), number))
    return cells


def definitions(name: str, **given: Any) -> dict[str, Any]:
    """Run the definitions and solutions of a source and return what they define.

    `given` are names that the functions use, for example the processor of a model.
    """
    space = {"__name__": "__main__", **given}
    for cell in read_source(name):
        if cell.kind in ("define", "solution"):
            where = f"{name}, cell {cell.number}"
            exec(compile(cell.text, where, "exec", dont_inherit=True), space)
    return space


# ------------------------------------------------------------------------------------------- build


def build(name: str, solution: bool) -> nbformat.NotebookNode:
    """Return the notebook to work in, or the one with solutions, without outputs."""
    left_out = ("exercise",) if solution else ("solution", "sample")
    book = nbformat.v4.new_notebook(metadata=KERNEL)
    for cell in read_source(name):
        if cell.kind in left_out:
            continue
        text = cell.text
        if not book.cells:
            text = f"{_fill(text, name)}\n\n{_other_version(name, solution)}"
        if solution:  # this notebook is one folder deeper
            text = text.replace('"../', '"../../').replace("](../", "](../../")
        if cell.kind in TEXT:
            if cell.kind == "hint":
                text = f"<details><summary>Hint</summary>\n\n{text}\n\n</details>"
            made = nbformat.v4.new_markdown_cell(text)
        else:
            tags = [] if cell.kind in ("code", "define") else [cell.kind]
            made = nbformat.v4.new_code_cell(text, metadata={"tags": tags} if tags else {})
        made.id = f"{name[:2]}-{cell.number:02}"
        book.cells.append(made)
    return book


def _other_version(name: str, solution: bool) -> str:
    if solution:
        return (
            f"*This notebook has the solutions. Work in [the one without](../{name}.ipynb) first.*"
        )
    return f"Solutions: [solutions/{name}.ipynb](solutions/{name}.ipynb)."


def _fill(text: str, name: str) -> str:
    """Replace `{measured}` by the time and memory of the computing, and the time of the exercises.

    `--execute` measures the first two. The exercises state their minutes.
    """
    measured = json.loads(MEASURED.read_text()) if MEASURED.is_file() else {}
    needs = "two cores (computing time and memory are not measured yet)"
    if name in measured:
        seconds, megabytes = measured[name]["seconds"], measured[name]["megabytes"]
        took = f"{max(1, round(seconds / 60))} min" if seconds >= 90 else f"{round(seconds)} s"
        needs = f"{took} of computing and {megabytes / 1000:.1f} GB of memory on two cores"
    found = (_MINUTES.findall(cell.text) for cell in read_source(name))
    if minutes := sum(map(int, itertools.chain.from_iterable(found))):
        needs += f"; the exercises take about {minutes} minutes"
    return text.replace("{measured}", needs)


def path_of(name: str, solution: bool) -> Path:
    """Return the path of a notebook."""
    return (SOLUTIONS if solution else FOLDER) / f"{name}.ipynb"


def keep_outputs(book: nbformat.NotebookNode, path: Path) -> None:
    """Take over the outputs of an older version of the file, up to the first changed code cell."""
    if not path.is_file():
        return
    old = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    new = [cell for cell in book.cells if cell.cell_type == "code"]
    for cell, before in zip(new, old, strict=False):
        if cell.source != before.source:
            return
        cell.outputs, cell.execution_count = before.outputs, before.execution_count


def to_text(book: nbformat.NotebookNode) -> str:
    """Return the content of the notebook's file, as nbstripout leaves it."""
    return nbformat.writes(book) + "\n"


def is_current(name: str, solution: bool) -> bool:
    """Return whether a notebook has the text and code of its source."""
    path = path_of(name, solution)
    if not path.is_file():
        return False
    kept, made = nbformat.read(path, as_version=4), build(name, solution)
    return [_content(cell) for cell in kept.cells] == [_content(cell) for cell in made.cells]


def _content(cell: nbformat.NotebookNode) -> tuple[Any, ...]:
    return cell.id, cell.cell_type, cell.source, cell.metadata


# ----------------------------------------------------------------------------------------- execute


def execute(name: str, solution: bool, runs: Path) -> nbformat.NotebookNode:
    """Run a notebook in a copy of the folder and return it with outputs.

    `runs` holds the run folder, so that the notebooks that follow find earlier results. The time
    and memory of the learner's version are written to `measured.json`.
    """
    from nbclient import NotebookClient

    book = build(name, solution)
    folder = runs / "notebooks" / ("solutions" if solution else "")
    folder.mkdir(parents=True, exist_ok=True)
    client = NotebookClient(book, timeout=None, resources={"metadata": {"path": str(folder)}})
    began = time.time()
    with client.setup_kernel():
        for index, cell in enumerate(book.cells):
            client.execute_cell(cell, index)
        seconds = time.time() - began
        peak = nbformat.v4.new_code_cell(
            "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        book.cells.append(peak)
        client.execute_cell(peak, len(book.cells) - 1)
        book.cells.pop()
    for cell in book.cells:
        cell.metadata.pop("execution", None)
    if not solution:
        measured = json.loads(MEASURED.read_text()) if MEASURED.is_file() else {}
        megabytes = int(peak.outputs[0].text) // 1000
        measured[name] = {"seconds": round(seconds), "megabytes": megabytes}
        MEASURED.write_text(json.dumps(dict(sorted(measured.items())), indent=1) + "\n")
        book.cells[0].source = build(name, solution).cells[0].source
    tidy_streams(book)
    add_pictures(book)
    return book


def tidy_streams(book: nbformat.NotebookNode) -> None:
    """Keep the last state of each progress bar that no other output interrupts.

    Drops empty streams, and DeepSpeed's remark about the CPU.
    """
    for cell in book.cells:
        outputs: list[nbformat.NotebookNode] = []
        for output in cell.get("outputs", []):
            stream = output.get("name")  # only streams have a name
            if stream and outputs and outputs[-1].get("name") == stream:
                outputs[-1].text += output.text  # a progress bar writes one output for each state
            else:
                outputs.append(output)
        for output in outputs:
            if output.output_type == "stream":
                text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)
                output.text = re.sub(r"\[[^\n]*real_accelerator[^\n]*\n", "", text)
        if cell.cell_type == "code":
            cell.outputs = [o for o in outputs if o.output_type != "stream" or o.text.strip()]


def add_pictures(book: nbformat.NotebookNode) -> None:
    """Add a picture to each Plotly figure, for places that run no script, such as GitHub.

    A widget without its kernel shows nothing, so only its figure stays.
    """
    figures = []
    for cell in book.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                data.pop(WIDGET, None)
                figures.append(data)
    for data, picture in zip(figures, draw([data[PLOTLY] for data in figures]), strict=True):
        data["image/png"] = picture


def draw(figures: list[dict[str, Any]]) -> list[str]:
    """Return PNG pictures of Plotly figures in base64, drawn by Chromium with Plotly's script."""
    if not figures:
        return []
    with ThreadPoolExecutor(1) as threads:  # Playwright runs once per thread: tests use it too
        return threads.submit(_draw, figures).result()


def _draw(figures: list[dict[str, Any]]) -> list[str]:
    import base64
    import io

    import plotly
    from PIL import Image
    from playwright.sync_api import sync_playwright

    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    pictures = []
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, CHROMIUM)), None)  # None: Playwright's own
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.add_script_tag(path=str(script))
        for figure in figures:
            height = figure["layout"].get("height", 340)
            url = page.evaluate(
                "([f, h]) => Plotly.toImage({data: f.data, layout: f.layout},"
                " {format: 'png', width: 760, height: h})",
                [figure, height],
            )
            image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
            small = io.BytesIO()
            image.convert("RGB").quantize(64).save(small, "PNG", optimize=True)
            pictures.append(base64.b64encode(small.getvalue()).decode())
        browser.close()
    return pictures


def write_pages(names: list[str], folder: Path, slides: bool, html: bool) -> None:
    """Write slides and pages of the stored notebooks; exit with 1 if a page misses a figure."""
    import pages

    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for name in names:
        for solution in (False, True):
            book = nbformat.read(path_of(name, solution), as_version=4)
            title = f"{name} with solutions" if solution else name
            if slides and not solution:
                path = folder / f"{name}.slides.html"
                path.write_text(pages.to_slides(book, title), encoding="utf-8")
                print(path)
            if html:
                path = folder / f"{name}{'.solution' if solution else ''}.html"
                page = pages.to_html(book, title)
                path.write_text(page, encoding="utf-8")
                outputs = any(cell.get("outputs") for cell in book.cells)
                print(path, "" if outputs else "(without outputs: run --execute first)")
                missing += [str(path)] * pages.missing_figures(book, page)
    if missing:
        sys.exit(f"figures are missing in {', '.join(sorted(set(missing)))}: run --execute again")


# -------------------------------------------------------------------------------------------- main


def main() -> None:
    """Write, check or run the notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is old")
    parser.add_argument("--execute", action="store_true", help="run the notebooks, keep outputs")
    parser.add_argument("--runs", type=Path, help="with --execute: the folder of the run")
    parser.add_argument("--slides", action="store_true", help="write slides of the notebooks")
    parser.add_argument("--html", action="store_true", help="write the notebooks as HTML pages")
    parser.add_argument("--to", type=Path, default=PAGES, help="with --slides and --html: a folder")
    parser.add_argument("names", nargs="*", help="default: all")
    chosen = parser.parse_args()
    names = chosen.names or source_names()
    if chosen.slides or chosen.html:
        write_pages(names, chosen.to, chosen.slides, chosen.html)
        return
    if chosen.check:
        old = [f"{path_of(n, s)}" for n in names for s in (False, True) if not is_current(n, s)]
        if old:
            sys.exit(f"not up to date: {', '.join(old)}: run `python notebooks/build.py`")
        return
    SOLUTIONS.mkdir(exist_ok=True)
    runs = chosen.runs or Path(tempfile.mkdtemp(prefix="notebooks-"))
    for name in names:
        for solution in (False, True):
            path = path_of(name, solution)
            if chosen.execute:
                book = execute(name, solution, runs)
            else:
                book = build(name, solution)
                keep_outputs(book, path)
            path.write_text(to_text(book), encoding="utf-8")
            print(path.relative_to(FOLDER.parent))
    if not chosen.runs:
        shutil.rmtree(runs, ignore_errors=True)


if __name__ == "__main__":
    main()
