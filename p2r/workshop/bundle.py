"""A folder for a course without network: the project, wheels of all packages, a finished run.

The models of the playground are part of the project. Learners copy the folder and install from it.
"""

from __future__ import annotations

import fnmatch
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from p2r.errors import UserError
from p2r.runs import Run
from p2r.workshop.reset import RUN, copy_run, format_size, size_of

EXTRAS = ("notebooks", "app")
PREBUILT = Path("prebuilt", "workshop")
# Not part of the project, if the folder is no git checkout.
_MADE = (
    *(".venv", ".git", "runs", "build", "dist", "site", "prebuilt", "wheels", "node_modules"),
    *("__pycache__", ".*_cache", ".ipynb_checkpoints", "*.egg-info"),
)
START = """# VideoP2R workbench: start without network

You need this folder, Python {python} on {platform}, and `make`. In a terminal, in this folder:

    sh install.sh               # makes .venv from the folder wheels/, without network
    make lab                    # opens JupyterLab: start with 00_tour.ipynb

If you come late, start at notebook 07 with the results of the notebooks before it:

    .venv/bin/p2r workshop reset --from prebuilt/workshop --start-at 7

To start again from nothing: `.venv/bin/p2r workshop reset`.
"""
INSTALL = """#!/bin/sh
# Makes .venv from the wheels in this folder. Needs no network.
set -e
cd "$(dirname "$0")"
PIP_NO_INDEX=1 PIP_FIND_LINKS="$PWD/wheels" make install PYTHON=python{python} EXTRAS={extras} "$@"
"""
Say = Callable[[str], None]


def write_bundle(
    project: Path,
    folder: Path,
    run: Run | None = None,
    *,
    extras: Sequence[str] = EXTRAS,
    wheels: bool = True,
    say: Say = print,
) -> int:
    """Write the bundle of a project to a folder, and return its size in bytes.

    `run`: a finished run of the notebooks; None leaves it out. `wheels`: also write a wheel of each
    installed package that the `extras` need. Wheels that exist are kept. `say` gets one line for
    each part, with its size. Raises `UserError` if a package is missing or differs from the lock.
    """
    if not (project / "notebooks" / "source").is_dir():
        raise UserError(f"{project} has no notebooks/source: pass the folder of the project")
    files = project_files(project)
    for name in files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project / name, target)
    say(f"project and models: {len(files)} files, {format_size(_sum(folder, files))}")
    _write_start(folder, extras)
    if run is not None:
        shutil.rmtree(folder / PREBUILT, ignore_errors=True)
        copy_run(run.folder, folder / PREBUILT)
        say(f"prebuilt run: {format_size(size_of(folder / PREBUILT))} in {PREBUILT}")
    if wheels:
        count = _write_wheels(project, folder / "wheels", extras)
        say(f"wheels: {count} packages, {format_size(size_of(folder / 'wheels'))}")
    total = size_of(folder)
    say(f"bundle: {format_size(total)} in {folder}")
    return total


def project_files(project: Path) -> list[str]:
    """Return the files of the project: those in git; without git, all except generated files."""
    listing = subprocess.run(
        ["git", "-C", str(project), "ls-files", "-z"], capture_output=True, text=True
    )
    names = [name for name in listing.stdout.split("\0") if name]
    names = names or [str(path.relative_to(project)) for path in _walk(project)]
    return sorted(name for name in names if (project / name).is_file())


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if not any(fnmatch.fnmatch(path.name, made) for made in _MADE):
            yield from _walk(path) if path.is_dir() and not path.is_symlink() else [path]


def _sum(folder: Path, names: Sequence[str]) -> int:
    return sum((folder / name).stat().st_size for name in names)


def _write_start(folder: Path, extras: Sequence[str]) -> None:
    """Write the page to start with, and the script that installs from the wheels."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    where = f"{platform.system()} ({platform.machine()})"
    (folder / "START.md").write_text(START.format(python=python, platform=where), encoding="utf-8")
    script = folder / "install.sh"
    content = INSTALL.format(python=python, extras=",".join(extras))
    script.write_text(content, encoding="utf-8")
    script.chmod(0o755)


def _write_wheels(project: Path, folder: Path, extras: Sequence[str]) -> int:
    """Write the wheels of all packages that the project needs; return how many there are."""
    from p2r.workshop.wheels import check_lock, installed_closure, read_lock, write_wheel

    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    optional = settings["project"]["optional-dependencies"]
    needed = [
        *settings["project"]["dependencies"],
        *settings["build-system"]["requires"],
        *(text for extra in extras for text in optional[extra]),
        "pip",
    ]
    packages = installed_closure(needed)
    check_lock(packages, read_lock(project / "requirements.lock"))
    for package in packages:
        write_wheel(package, folder)
    return len(packages)


def finish_run(folder: Path = RUN, scale: str = "tiny") -> Run:
    """Open the run of the notebooks and make the results that are missing, of every stage."""
    from p2r import stages
    from p2r.pipeline import collect_cases
    from p2r.workshop.notebook import begin, need

    run = begin(folder, scale)
    model = need(run, "rl model")
    base = run.recipe.models.base
    for name, path, style in (
        ("base", base, None),
        ("base_direct", base, "direct"),
        ("sft", str(run.folder / "sft" / "model"), None),
        ("pa_grpo", str(model), None),
    ):
        stages.evaluate(run, path, name, style=style)
    collect_cases(run)
    return run
