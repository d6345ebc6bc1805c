"""Checks that all notebooks have the same parts, are executed, and run in order with few steps."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from statistics import median

import nbformat
import pytest
from nbmake.nb_run import NotebookRun

from p2r import plots, workshop
from p2r.errors import UserError
from p2r.records import Case, Question, Trace

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = (
    "00_tour",
    "01_playground",
    "02_video",
    "03_generate",
    "04_filter",
    "05_sft",
    "06_pa_grpo",
    "07_evaluation",
)


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def printed(book: nbformat.NotebookNode) -> list[str]:
    """Return the lines that the cells of a notebook printed."""
    streams = [output for cell in code_cells(book) for output in cell.outputs if "text" in output]
    return [line for stream in streams for line in stream.text.splitlines()]


def run(name: str, folder: Path) -> nbformat.NotebookNode:
    """Run a copy of a notebook in `folder/notebooks`; its run folder is in `folder/runs`.

    The metadata of the cells tell nbmake how to shrink the run and how to solve the exercises.
    """
    copy = folder / "notebooks" / f"{name}.ipynb"
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(FOLDER / copy.name, copy)
    result = NotebookRun(copy, default_timeout=240).execute()
    assert result.error is None, result.error.trace
    return result.nb


def exercises_passed(book: nbformat.NotebookNode) -> bool:
    checks = sum("workshop.check(" in cell.source for cell in code_cells(book))
    return checks >= 1 and printed(book).count("passed") == checks


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("workshop")


@pytest.mark.parametrize("name", NAMES[:-1])
def test_notebooks_run_in_order_in_one_run_folder(name, shared_folder):
    assert exercises_passed(run(name, shared_folder))


def test_last_notebook_runs_without_the_others(tmp_path):
    book = run(NAMES[-1], tmp_path)
    assert exercises_passed(book)
    assert sum("making it now" in line for line in printed(book)) == 4
    assert (tmp_path / "runs" / "quick" / "cases.parquet").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_notebook_has_all_parts(name):
    book = read(name)
    text = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    for part in (
        "**After this notebook you can**",
        "**Needs**",
        "## Toy numbers",
        "**Predict",
        "**What this shows.**",
        "## Exercises",
        "minutes",
        "## Summary",
    ):
        assert part in text, f"{name} has no {part!r}"
    first = code_cells(book)[0]
    assert first.metadata["tags"] == ["parameters"]
    assert all(f"{key} = " in first.source for key in ("SCALE", "SEED", "RUN"))


@pytest.mark.parametrize("name", NAMES)
def test_code_cells_are_short(name):
    lengths = [len(cell.source.splitlines()) for cell in code_cells(read(name))]
    assert median(lengths) <= 10 and max(lengths) <= 40


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs(name):
    """Notebooks were executed in order, have no errors, are small and have no absolute paths."""
    book = read(name)
    cells = code_cells(book)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(o.output_type == "error" for cell in cells for o in cell.outputs)
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert not re.search(r"/(?:work|tmp|root|home|Users)\b", text)


# ---- the library of the notebooks


def test_an_existing_run_keeps_its_scale_and_seed(tmp_path, capsys):
    begun = workshop.begin(tmp_path / "run", "quick", seed=3)
    assert (begun.recipe.name, begun.recipe.seed) == ("quick", 3)
    assert "seed 3" in capsys.readouterr().out
    assert workshop.begin(tmp_path / "run", "quick", seed=3).recipe == begun.recipe
    for scale, seed in (("tiny", 3), ("quick", 0)):
        with pytest.raises(UserError, match="another folder"):
            workshop.begin(tmp_path / "run", scale, seed)


@pytest.mark.parametrize("scale", ["tiny", "3b", "7b"])
def test_a_scale_names_a_recipe(tmp_path, scale):
    recipe = workshop.begin(tmp_path / "run", scale).recipe
    assert recipe.name == scale and recipe.playground.train > 0


def test_check_says_passed_only_for_a_right_answer(capsys):
    for answer in (None, 1, 2):
        workshop.check(answer, lambda value: value == 2, "twice one")
    assert capsys.readouterr().out.splitlines() == ["no answer yet", "not yet: twice one", "passed"]


def test_show_case_prints_only_known_parts(capsys):
    question = Question(
        id="q1", problem="Which?", options=["A. a", "B. b"], problem_type="multiple choice"
    )
    workshop.show_case(Case(question=question, trace=Trace(question_id="q1", text="B", answer="B")))
    shown = capsys.readouterr().out
    assert "A. a" in shown and "'B'" in shown and "judge" not in shown


def test_unknown_metrics_have_no_bar():
    known, unknown = (
        {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 4},
        {"mean": None, "low": None, "high": None, "n": 0},
    )
    (bar,) = plots.results({"sft": {"accuracy": known, "mismatch": unknown}}, "").data
    assert list(bar.x) == ["accuracy"] and bar.error_y.array == (25.0,)


def test_training_leaves_gaps_where_a_metric_is_unknown():
    rows = [{"step": 1, "kl": 0.1}, {"step": 2, "kl": float("nan")}, {"step": 3}]
    (line,) = plots.training(rows, {"kl": "kl"}, "").data
    assert list(line.y) == [0.1, None, None]


def test_unknown_has_its_own_row_only_if_it_occurs():
    cells = {"right": 2, "wrong": 1, "unknown": 0}
    table = {"sufficient": cells, "insufficient": cells, "unknown": dict.fromkeys(cells, 0)}
    (heat,) = plots.perception_by_answer(table, "").data
    assert len(heat.y) == 2 and len(heat.x) == 2
    table["unknown"] = cells
    (heat,) = plots.perception_by_answer(table, "").data
    assert len(heat.y) == 3
