"""Start the course again: delete run folders, restore notebooks, or copy a prebuilt run.

Everything happens inside one course folder, the one that holds `notebooks/` and `runs/`.
"""

from __future__ import annotations

import fnmatch
import runpy
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from p2r.errors import UserError

RUN = Path("runs", "workshop")  # the run folder of the notebooks
LAST_NOTEBOOK = 10
# What each notebook writes into the run. `start_at` leaves out the results of later notebooks.
RESULTS: dict[int, tuple[str, ...]] = {
    1: ("data", "bad", ".questions.lock"),
    2: ("generate.*",),
    3: ("filter.*", "sft.jsonl", "funnel.json", "cases/cot.jsonl", "variants/filter"),
    4: ("sft", "*/base.*", "*/base_direct.*", "*/sft.*", "*/eval-base*", "*/eval-sft.*"),
    7: ("pa_grpo", "grpo", "cases/rl-*", "variants/rl"),
    8: ("*/pa_grpo.*", "*/eval-pa_grpo.*", "cases.parquet", "results.json"),
    9: ("labels.jsonl",),
}


@dataclass(frozen=True)
class Reset:
    """What a reset will do in the folder `root`. All paths are inside it.

    `delete`: run folders. `restore`: notebooks, which lose answers and outputs. `prebuilt`: a
    finished run that is copied to `runs/workshop`, with the results of the notebooks before
    `start_at`.
    """

    root: Path
    delete: tuple[Path, ...]
    restore: tuple[Path, ...]
    prebuilt: Path | None = None
    start_at: int = LAST_NOTEBOOK

    def describe(self) -> list[str]:
        """Return one line for each thing that will happen."""
        lines = [
            f"delete {path.relative_to(self.root)} ({format_size(size_of(path))})"
            for path in self.delete
        ]
        lines += [
            f"restore {path.relative_to(self.root)}: your answers and outputs in it are lost"
            for path in self.restore
        ]
        if self.prebuilt is not None:
            lines.append(
                f"copy {self.prebuilt} to {RUN}, with the results of the notebooks before "
                f"{self.start_at:02}"
            )
        return lines


def plan_reset(
    root: Path,
    *,
    runs: Sequence[Path] | None = None,
    notebooks: bool = True,
    prebuilt: Path | None = None,
    start_at: int = LAST_NOTEBOOK,
) -> Reset:
    """Return what a reset of the course in `root` will do. Changes nothing.

    `runs`: the run folders to delete, relative to `root` (default: `runs/workshop` and its
    variants with overrides, `runs/workshop-*`, without `prebuilt`). Raises `UserError` if a folder
    is outside `root`, is a link, is not a run, or shares files with `prebuilt`, and if `root` has
    no notebooks.
    """
    root = root.resolve()
    prebuilt = prebuilt and prebuilt.resolve()
    if not (root / "notebooks" / "source").is_dir():
        raise UserError(f"{root} has no notebooks/source: pass the folder of the project")
    if runs is None:
        found = [root / RUN, *sorted(root.glob(f"{RUN}-*"))]
        chosen = [path for path in found if (path / "recipe.yaml").is_file() and path != prebuilt]
    else:
        chosen = [root / path for path in runs]
    for path in chosen:
        _check_run_inside(root, path)
    if prebuilt is not None:
        if not (prebuilt / "recipe.yaml").is_file():
            raise UserError(f"{prebuilt} is not a run: pass the prebuilt run of a bundle")
        for path in (root / RUN, *chosen):
            if path.is_relative_to(prebuilt) or prebuilt.is_relative_to(path):
                raise UserError(
                    f"the reset would delete or overwrite {path}, which shares files with "
                    f"{prebuilt}, the run to copy. Move that run out of {path} first, or choose "
                    "other folders with --run"
                )
        if (root / RUN).exists() and root / RUN not in chosen:
            raise UserError(f"{root / RUN} exists: choose it too (--run {RUN}), or move it away")
    restore = _changed_notebooks(root) if notebooks else []
    return Reset(root, tuple(chosen), tuple(restore), prebuilt, start_at)


def _check_run_inside(root: Path, path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path} does not exist: pass a run folder inside {root}")
    if path.resolve() != path or not path.is_relative_to(root) or path == root:
        raise UserError(
            f"{path} is a link or is not inside {root}: a reset deletes only folders of the "
            "course. Delete it yourself, if you are sure"
        )
    if not (path / "recipe.yaml").is_file():
        raise UserError(f"{path} is not a run (it has no recipe.yaml): it is not deleted")


def reset(plan: Reset) -> None:
    """Delete, restore and copy what a plan lists. Deletes nothing until the copy is complete."""
    part = plan.root / RUN.with_name(f".{RUN.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        if plan.prebuilt is not None:
            copy_run(plan.prebuilt, part, plan.start_at)
        for path in plan.delete:
            _check_run_inside(plan.root, path)  # the folder may have changed since the plan
            shutil.rmtree(path)
        if plan.prebuilt is not None:
            part.rename(plan.root / RUN)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    restore_notebooks(plan.root, plan.restore)


def copy_run(prebuilt: Path, folder: Path, start_at: int = LAST_NOTEBOOK) -> None:
    """Copy a finished run, without the results of notebook `start_at` and later ones."""
    later = [name for number, names in RESULTS.items() if number >= start_at for name in names]

    def skip(parent: str, names: list[str]) -> set[str]:
        place = Path(parent).relative_to(prebuilt)
        return {n for n in names if any(fnmatch.fnmatch(str(place / n), each) for each in later)}

    shutil.copytree(prebuilt, folder, ignore=skip)


# ---- notebooks


def _builder(root: Path) -> Any:
    """Return the functions of `notebooks/build.py`."""
    return SimpleNamespace(**runpy.run_path(str(root / "notebooks" / "build.py")))


def _changed_notebooks(root: Path) -> list[Path]:
    """Return the notebooks whose cells differ from their source, or that hold new outputs."""
    build = _builder(root)
    return [
        path
        for name in build.source_names()
        for solution in (False, True)
        if (path := build.path_of(name, solution)).is_file()
        if not build.is_current(name, solution) or _has_new_outputs(root, path)
    ]


def _has_new_outputs(root: Path, path: Path) -> bool:
    text, committed = path.read_text(encoding="utf-8"), _committed(root, path)
    return '"output_type"' in text if committed is None else text != committed


def _committed(root: Path, path: Path) -> str | None:
    """Return a file as in the last commit; None without git, or if git does not know the file."""
    if not shutil.which("git"):
        return None
    place = f"HEAD:./{path.relative_to(root).as_posix()}"
    shown = subprocess.run(["git", "-C", str(root), "show", place], capture_output=True)
    return shown.stdout.decode("utf-8") if shown.returncode == 0 else None


def restore_notebooks(root: Path, paths: Sequence[Path]) -> None:
    """Write notebooks as the last commit has them, or without outputs from their sources."""
    build = _builder(root)
    for path in paths:
        name, solution = path.stem, path.parent.name == "solutions"
        path.write_text(_committed(root, path) or "", encoding="utf-8")
        if not path.stat().st_size or not build.is_current(name, solution):
            path.write_text(build.to_text(build.build(name, solution)), encoding="utf-8")


# ---- sizes


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file() or file.is_symlink())


def format_size(size: float) -> str:
    """Return a number of bytes as text: `34 MB`."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
