"""`p2r workshop reset`: what it deletes, restores and copies, and what it never touches."""

import runpy
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2r.cli import run_cli
from p2r.errors import UserError
from p2r.workshop.reset import RESULTS, format_size, plan_reset, reset

ROOT = Path(__file__).parents[2]
FILES = (
    *("recipe.yaml", "data/train/1.mp4", "generate.jsonl", "generate.made.json", "filter.jsonl"),
    *("sft.jsonl", "funnel.json", "cases/cot.jsonl", "sft/model/x", "eval/base.json"),
    *("eval/sft.json", "results/sft.json", "cases/eval-sft.jsonl", "pa_grpo/model/x"),
    *("cases/rl-pa_grpo.jsonl", "eval/pa_grpo.json", "results/pa_grpo.json", "variants/rl/a/x"),
    *("cases/eval-pa_grpo.jsonl", "cases.parquet", "labels.jsonl", "verdicts.jsonl"),
)

OUTPUT = '{"name": "stdout", "output_type": "stream", "text": ["an output"]}'
AUTHOR = ("-c", "user.name=A", "-c", "user.email=a@example.org")


def make_run(folder: Path) -> Path:
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return folder


@pytest.fixture
def course(tmp_path) -> Path:
    """A course folder with one notebook in two versions, two runs and other files."""
    root = tmp_path / "course"
    (root / "notebooks" / "source").mkdir(parents=True)
    for name in ("build.py", "source/00_tour.py"):
        shutil.copy(ROOT / "notebooks" / name, root / "notebooks" / name)
    build = SimpleNamespace(**runpy.run_path(str(root / "notebooks" / "build.py")))
    (root / "notebooks" / "solutions").mkdir()
    for solution in (False, True):  # without outputs
        book = build.build("00_tour", solution)
        build.path_of("00_tour", solution).write_text(build.to_text(book), encoding="utf-8")
    for name in ("workshop", "workshop-beta-0.1", "mine"):
        make_run(root / "runs" / name)
    (root / "runs" / "workshop-notes").mkdir()
    return root


def test_a_reset_deletes_the_runs_and_restores_the_notebooks(course, capsys):
    book = course / "notebooks" / "00_tour.ipynb"
    fresh = book.read_text()
    book.write_text(fresh.replace("praised, blamed = None, None", "praised, blamed = [3], [2]"))
    assert run_cli(["workshop", "reset", str(course), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "delete runs/workshop (22 B)" in said and "runs/workshop-beta-0.1" in said
    assert "restore notebooks/00_tour.ipynb: your answers" in said and "solutions" not in said
    assert "runs/mine" not in said and "workshop-notes" not in said
    assert (course / "runs" / "workshop").is_dir() and book.read_text() != fresh

    assert run_cli(["workshop", "reset", str(course), "--yes"]) == 0
    assert book.read_text() == fresh
    assert sorted(path.name for path in (course / "runs").iterdir()) == ["mine", "workshop-notes"]
    capsys.readouterr()
    assert run_cli(["workshop", "reset", str(course)]) == 0
    assert "nothing to reset" in capsys.readouterr().out


def test_a_reset_keeps_the_outputs_of_the_last_commit(course, capsys):
    book = course / "notebooks" / "00_tour.ipynb"
    book.write_text(book.read_text().replace('"outputs": []', f'"outputs": [{OUTPUT}]', 1))
    fresh = book.read_text()
    for command in (["init", "-q"], ["add", "notebooks"], ["commit", "-qm", "Notebooks"]):
        subprocess.run(["git", "-C", course, *AUTHOR, *command], check=True)
    assert run_cli(["workshop", "reset", str(course), "--dry-run"]) == 0
    assert "restore" not in capsys.readouterr().out
    book.write_text(fresh.replace("praised, blamed = None, None", "praised, blamed = [3], [2]"))
    assert run_cli(["workshop", "reset", str(course), "--yes"]) == 0
    assert book.read_text() == fresh and "an output" in fresh


def test_without_a_yes_nothing_changes(course, monkeypatch, capsys):
    monkeypatch.setattr("typer.confirm", lambda question: False)
    assert run_cli(["workshop", "reset", str(course), "--keep-notebooks"]) == 1
    assert "nothing was changed" in capsys.readouterr().out
    assert (course / "runs" / "workshop").is_dir()


def test_nothing_outside_the_course_is_deleted(course, tmp_path):
    outside = make_run(tmp_path / "outside")
    (course / "runs" / "linked").symlink_to(outside)
    for path in ("../outside", outside, "runs/linked", "runs/mine/../../../outside", "."):
        with pytest.raises(UserError, match="link or is not inside"):
            plan_reset(course, runs=[Path(path)], notebooks=False)
    with pytest.raises(UserError, match="it has no recipe"):
        plan_reset(course, runs=[Path("notebooks")], notebooks=False)
    with pytest.raises(UserError, match="does not exist"):
        plan_reset(course, runs=[Path("runs/none")], notebooks=False)
    with pytest.raises(UserError, match="no notebooks/source"):
        plan_reset(tmp_path)
    assert (outside / "recipe.yaml").is_file()


def test_a_prebuilt_run_is_copied_up_to_a_notebook(course, tmp_path):
    prebuilt = make_run(tmp_path / "prebuilt")
    run = course / "runs" / "workshop"
    with pytest.raises(UserError, match="exists"):
        plan_reset(course, runs=[], notebooks=False, prebuilt=prebuilt)
    command = ["workshop", "reset", str(course), "--yes", "--from", str(prebuilt)]
    left = {}
    for number in (7, 4, 2, 10):
        assert run_cli([*command, "--start-at", str(number)]) == 0
        files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
        left[number] = set(FILES) - files
    assert not left[10]
    assert left[7] == {
        *("pa_grpo/model/x", "cases/rl-pa_grpo.jsonl", "eval/pa_grpo.json", "variants/rl/a/x"),
        *("results/pa_grpo.json", "cases/eval-pa_grpo.jsonl", "cases.parquet", "labels.jsonl"),
    }
    assert set(FILES) - left[2] == {"recipe.yaml", "data/train/1.mp4", "verdicts.jsonl"}
    assert left[2] - left[4] == {
        *("generate.jsonl", "generate.made.json", "filter.jsonl", "sft.jsonl", "funnel.json"),
        "cases/cot.jsonl",
    }
    assert min(RESULTS) == 1


def test_the_run_to_copy_is_never_deleted(course, monkeypatch):
    kept = make_run(course / "runs" / "workshop-prebuilt")
    inner = make_run(course / "runs" / "workshop" / "variants" / "prebuilt")
    monkeypatch.chdir(course)
    plan = plan_reset(course, notebooks=False, prebuilt=Path("runs/workshop-prebuilt"))
    names = ["workshop", "workshop-beta-0.1"]
    assert [path.name for path in plan.delete] == names and plan.prebuilt == kept
    for path in (inner, course / "runs" / "workshop"):
        with pytest.raises(UserError, match="shares files with"):
            plan_reset(course, notebooks=False, prebuilt=path)
    chosen = [Path("runs/workshop"), Path("runs/workshop-prebuilt")]
    with pytest.raises(UserError, match="shares files with"):
        plan_reset(course, runs=chosen, notebooks=False, prebuilt=kept)
    reset(plan)
    assert (kept / "recipe.yaml").is_file() and not inner.exists()
    assert (course / "runs" / "workshop" / "recipe.yaml").is_file()


def test_a_copy_that_fails_deletes_nothing(course, tmp_path, monkeypatch):
    plan = plan_reset(course, notebooks=False, prebuilt=make_run(tmp_path / "prebuilt"))

    def full(run: Path, folder: Path, start_at: int) -> None:
        folder.mkdir()
        raise OSError("No space left on device")

    monkeypatch.setattr("p2r.workshop.reset.copy_run", full)
    with pytest.raises(OSError, match="No space left"):
        reset(plan)
    left = sorted(path.name for path in (course / "runs").iterdir())
    assert left == ["mine", "workshop", "workshop-beta-0.1", "workshop-notes"]


def test_sizes_are_told_in_round_numbers():
    assert [format_size(n) for n in (0, 999, 34_000_000, 1_940_000_000)] == [
        *("0 B", "999 B", "34 MB", "1.9 GB")
    ]
