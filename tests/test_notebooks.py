"""The notebooks: made from their sources, with all parts, and they run with few steps."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median

import nbformat
import pytest
from notebook_kernel import notebook_kernel

from p2r import stages, workshop
from p2r.workshop.reset import copy_run

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "notebooks"))
import build  # noqa: E402
import pages  # noqa: E402

NAMES = build.source_names()
BOTH = pytest.mark.parametrize("solution", [False, True], ids=["learner", "solution"])
EACH = pytest.mark.parametrize("name", NAMES)
# The first one needs results of all stages and makes them. The others find them.
ORDER = ["08_evaluation", *(name for name in NAMES if name != "08_evaluation")]
RAN: dict[str, nbformat.NotebookNode] = {}  # executed notebooks that a later test reads
EXERCISE = re.compile(
    r"### Exercise \d+: .+\n\nDifficulty ([●○]{5}) · importance ([●○]{5}) · (\d+) minutes?\n"
)


def read(name: str, solution: bool = False) -> nbformat.NotebookNode:
    return nbformat.read(build.path_of(name, solution), as_version=4)


def code_cells(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def texts(name: str) -> str:
    return "\n\n".join(cell.text for cell in build.read_source(name) if cell.kind in build.TEXT)


def printed(book: nbformat.NotebookNode) -> list[str]:
    """Return the lines that the cells of a notebook printed."""
    streams = [output for cell in code_cells(book) for output in cell.outputs if "text" in output]
    return [line for stream in streams for line in stream.text.splitlines()]


def count_checks(book: nbformat.NotebookNode) -> int:
    return sum(len(re.findall(r"\bchecks\.test_", cell.source)) for cell in code_cells(book))


@pytest.fixture(scope="module")
def kernel():
    with notebook_kernel() as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("workshop") / "notebooks"


def run(kernel, folder: Path, name: str, solution: bool) -> nbformat.NotebookNode:
    """Run a notebook with few steps in the run folder that all of them share."""
    book = build.build(name, solution)
    parameters = code_cells(book)[0]
    parameters.source = parameters.source.replace('SCALE = "tiny"', 'SCALE = "quick"')
    parameters.source = parameters.source.replace("STEPS = 24", "STEPS = 1")
    return kernel.run(book, folder / "solutions" if solution else folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDER)
def test_an_unsolved_notebook_runs(name, kernel, folder):
    book = run(kernel, folder, name, solution=False)
    said = printed(book)
    open_ones = [line for line in said if line.startswith(("not written yet", "no answer yet"))]
    assert len(open_ones) == count_checks(book) >= 1
    assert "passed" not in said
    if name == ORDER[0]:
        assert sum("making it now" in line for line in said) == 4
        assert (folder.parent / "runs" / "workshop" / "cases.parquet").is_file()


@pytest.mark.slow
@EACH
def test_a_solution_passes_all_checks(name, kernel, folder):
    book = run(kernel, folder, name, solution=True)
    said = printed(book)
    assert sum(line.startswith("passed") for line in said) == count_checks(book) >= 1
    assert not any("making it now" in line for line in said)
    if name == "01_frames":
        RAN[name] = book


@pytest.mark.slow
@pytest.mark.browser
def test_a_page_shows_every_figure_of_an_executed_notebook(kernel, folder):
    book = RAN.get("01_frames") or run(kernel, folder, "01_frames", solution=True)
    build.add_pictures(book)
    page = pages.to_html(book, "01")
    assert page.count("data:image/png") >= 5 and pages.missing_figures(book, page) == 0


@pytest.mark.slow
def test_a_late_group_starts_at_07_with_a_finished_run(folder, tmp_path, capsys):
    finished = folder.parent / "runs" / "workshop"
    if not finished.is_dir():
        pytest.skip("the tests of this file make the run: start them too")
    copy_run(finished, tmp_path / "workshop", start_at=7)
    run = workshop.begin(tmp_path / "workshop", "quick")
    assert workshop.need(run, "sft model").is_dir() and not run.path("pa_grpo").exists()
    stages.generate(run)
    stages.filter(run)
    assert stages.sft(run) == run.path("sft", "model")
    assert "making it now" not in capsys.readouterr().out


# ---- without running them


@EACH
@BOTH
def test_notebooks_are_made_from_their_sources(name, solution):
    assert build.is_current(name, solution), "run `python notebooks/build.py`"


@EACH
def test_a_notebook_has_all_parts(name):
    text = texts(name)
    for part in (
        "**After this notebook you can**",
        "**Needs** {measured}",
        "## Toy numbers",
        "**Predict",
        "**What this shows.**",
        "## Summary",
    ):
        assert part in text, f"{name} has no {part!r}"
    parameters = build.read_source(name)[1]
    assert parameters.kind == "parameters"
    assert all(f"{key} = " in parameters.text for key in ("SCALE", "SEED", "RUN"))


@EACH
def test_every_exercise_has_its_head_and_a_check_without_the_answer(name):
    text, cells = texts(name), build.read_source(name)
    heads = EXERCISE.findall(text + "\n")
    assert len(heads) == text.count("### Exercise") >= 2
    for number in range(1, len(heads) + 1):
        assert f"### Exercise {number}: " in text
    for exercise, solution in pairwise(cells):
        if exercise.kind == "exercise":
            assert solution.kind == "solution"
            answer = solution.text.rpartition("return ")[2].splitlines()[0]
            assert not any(answer in cell.text for cell in cells if "checks.test_" in cell.text)


def test_there_is_enough_to_write():
    cells = [cell for name in NAMES for cell in build.read_source(name)]
    heads = [head for name in NAMES for head in EXERCISE.findall(texts(name) + "\n")]
    functions = [cell for cell in cells if cell.kind == "exercise" and "\ndef " in f"\n{cell.text}"]
    assert len(NAMES) == 11 and len(heads) >= 40 and len(functions) >= 25
    assert all("raise NotImplementedError" in cell.text for cell in functions)


@EACH
@BOTH
def test_code_cells_are_short(name, solution):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(read(name, solution))]
    assert median(lengths) <= 10 and max(lengths) <= 40


@EACH
def test_links_between_notebooks_lead_somewhere(name):
    for target in re.findall(r"\]\(([\w/]+\.ipynb)\)", texts(name)):
        assert (build.FOLDER / target).is_file(), target


@EACH
@BOTH
def test_committed_outputs(name, solution):
    """An executed notebook has no errors, is small, has no absolute paths, and has pictures."""
    cells = code_cells(read(name, solution))
    outputs = [output for cell in cells for output in cell.outputs]
    counts = [cell.execution_count for cell in cells if cell.execution_count]
    assert counts == list(range(1, len(counts) + 1)), "run `build.py --execute` again"
    assert not any(output.output_type == "error" for output in outputs)
    for data in (output.get("data", {}) for output in outputs):
        assert build.WIDGET not in data
        assert build.PLOTLY not in data or "image/png" in data
    text = build.path_of(name, solution).read_text(encoding="utf-8")
    assert len(text) < 400_000
    assert not re.search(r"/(?:work|tmp|root|home|Users)\b", text)


# ---- the builder


def test_stored_streams_have_the_last_state_of_a_progress_bar():
    noise = "[2026] [WARNING] [real_accelerator.py:1] Setting accelerator to CPU.\n"
    text = f"a line\n{noise}\rsft: 0%\rsft: 50%\rsft: 100%\nrl: 0%\rrl: 9%\r\nend\n"
    streams = [nbformat.v4.new_output("stream", text=part) for part in (text[:60], text[60:])]
    error = nbformat.v4.new_output("stream", name="stderr", text="careful\n")
    figure = nbformat.v4.new_output("display_data", {"text/plain": "a\rb"})
    cell = nbformat.v4.new_code_cell(outputs=[*streams, error, figure])
    build.tidy_streams(nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_markdown_cell()]))
    assert [output.get("name") for output in cell.outputs] == ["stdout", "stderr", None]
    assert cell.outputs[0].text == "a line\nsft: 100%\nrl: 9%\r\nend\n"
    assert cell.outputs[1].text == "careful\n" and figure.data == {"text/plain": "a\rb"}


def test_a_source_gives_two_notebooks(tmp_path, monkeypatch):
    for name in ("FOLDER", "SOURCES"):
        monkeypatch.setattr(build, name, tmp_path)
    monkeypatch.setattr(build, "SOLUTIONS", tmp_path / "solutions")
    monkeypatch.setattr(build, "MEASURED", tmp_path / "measured.json")
    (tmp_path / "measured.json").write_text('{"00_a": {"seconds": 200, "megabytes": 1400}}')
    source = tmp_path / "00_a.py"
    source.write_text(
        "# %% [markdown]\n# # A\n#\n# Needs {measured}.\n# %% [parameters]\nRUN = \"../runs/a\"\n"
        "# %% [markdown]\n# Difficulty ●○○○○ · importance ●○○○○ · 7 minutes\n"
        "# %% [exercise]\ndef f():\n    raise NotImplementedError\n\n\n"
        "# %% [solution]\ndef f():\n    return 1\n\n\n# %%\nprint(f())\n# %% [hint]\n# One.\n"
        "# %% [sample]\n# An answer.\n"
    )  # fmt: skip
    learner, solved = build.build("00_a", False), build.build("00_a", True)
    assert learner.cells[0].source.startswith(
        "# A\n\nNeeds 3 min of computing and 1.4 GB of memory on two cores; "
        "the exercises take about 7 minutes.\n\nSol"
    )
    assert "../00_a.ipynb" in solved.cells[0].source
    assert [cell.source for cell in code_cells(solved)] == [
        'RUN = "../../runs/a"',
        "def f():\n    return 1",
        "print(f())",
    ]
    assert "NotImplementedError" in code_cells(learner)[1].source
    assert learner.cells[-1].source == ("<details><summary>Hint</summary>\n\nOne.\n\n</details>")
    assert solved.cells[-1].source == "An answer."
    assert [cell.id for cell in learner.cells] == [f"00-0{number}" for number in (0, 1, 2, 3, 5, 6)]
    assert build.definitions("00_a")["f"]() == 1

    path = build.path_of("00_a", False)
    assert not build.is_current("00_a", False)
    code_cells(learner)[2].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    path.write_text(build.to_text(learner))
    assert build.is_current("00_a", False)
    again = build.build("00_a", False)
    build.keep_outputs(again, path)
    assert code_cells(again)[2].outputs[0].text == "1\n"
    source.write_text(source.read_text().replace("print(f())", "print(f() + 1)"))
    assert not build.is_current("00_a", False)
    changed = build.build("00_a", False)
    build.keep_outputs(changed, path)
    assert code_cells(changed)[2].outputs == []
    source.write_text("# %% [markdown]\n# A\n# %% [solution]\nx = 1\n")
    with pytest.raises(ValueError, match="solution without an exercise"):
        build.read_source("00_a")
    source.write_text("# %% [riddle]\n")
    with pytest.raises(ValueError, match="unknown kind of cell 'riddle'"):
        build.read_source("00_a")


@pytest.mark.browser
def test_a_figure_gets_a_picture():
    import base64

    figure = {"data": [{"type": "bar", "x": ["a", "b"], "y": [1, 2]}], "layout": {"height": 200}}
    data = {build.PLOTLY: figure, build.WIDGET: {}}
    cell = nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("display_data", data)])
    build.add_pictures(nbformat.v4.new_notebook(cells=[cell]))
    kept = cell.outputs[0].data
    assert build.WIDGET not in kept and base64.b64decode(kept["image/png"]).startswith(b"\x89PNG")
