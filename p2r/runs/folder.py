"""Run folders: one recipe, one folder, and everything that its numbers depend on.

A run holds `recipe.yaml` (complete), `environment.json` (versions, platform, commit), the journals
of its stages, `cases.parquet`, checkpoints and result files. p2r refuses a change of the recipe
that would change the result of a stage that has begun (`p2r.runs.ownership`), so no file mixes the
results of two recipes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from p2r.errors import UserError
from p2r.files.atomic import read_json, write_json, write_text
from p2r.runs.ownership import begun_stages, comparable, is_free, is_whole_arm, owners
from p2r.runs.recipe import Recipe, load_recipe
from p2r.runs.software import record_environment

# What may be in the folder of a run without a recipe: its own files, hidden files, logs.
_RUN_FILES = (
    *(".*", "*.log", "*.out", "*.err", "environment.json", "data", "data_root", "sources.json"),
    *("generate.*", "filter.*", "sft.jsonl", "funnel.json", "cases", "cases.*", "ledger*"),
    *("verdicts*", "eval", "results*", "splits.json", "probes", "studies", "study_*", "variants"),
)


@dataclass(frozen=True)
class Run:
    """A run folder and its recipe."""

    folder: Path
    recipe: Recipe

    @property
    def name(self) -> str:
        """The folder's name; every trace made in the run has it as its `run`."""
        return self.folder.name

    def path(self, *parts: str) -> Path:
        """Return a path inside the run; the path's folder is made if needed."""
        path = self.folder.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def open_run(
    folder: str | Path,
    recipe: str | Path | None = None,
    overrides: Iterable[str] = (),
    *,
    must_exist: bool = False,
) -> Run:
    """Begin a run, or resume it with its own recipe.

    Without `recipe`, a run that exists uses its own recipe and a new run uses `tiny`. A changed
    recipe replaces the run's. Raises `UserError` if the change affects a stage that has begun (the
    message names stage and keys), or if `must_exist` is true and the folder is not a run.
    """
    run = preview_run(folder, recipe, overrides, must_exist=must_exist)
    kept = run.folder / "recipe.yaml"
    if not kept.is_file() or run.recipe != load_recipe(kept):
        write_text(kept, run.recipe.to_yaml())
    record_environment(run.folder / "environment.json")
    return run


def preview_run(
    folder: str | Path,
    recipe: str | Path | None = None,
    overrides: Iterable[str] = (),
    *,
    must_exist: bool = False,
) -> Run:
    """Return the run that `open_run` would return. Makes the same checks and writes nothing."""
    folder = Path(folder)
    kept = folder / "recipe.yaml"
    if must_exist:
        check_run(folder)
    if not kept.is_file():
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file: give --run a folder")
        return Run(folder, load_recipe(recipe or "tiny", list(overrides)))
    resolved = load_recipe(recipe or kept, list(overrides))
    _check_begun_stages(folder, load_recipe(kept), resolved)
    return Run(folder, resolved)


def check_run(folder: str | Path) -> None:
    """Raise `UserError` if a folder is not a run; write nothing."""
    folder = Path(folder)
    if not (folder / "recipe.yaml").is_file():
        problem = "is a file" if folder.is_file() else "does not exist"
        if folder.is_dir():
            problem = "is not a run (it has no recipe.yaml)"
        raise UserError(f"run folder {folder} {problem}: pass a run folder that p2r created")


def check_new_run(folder: str | Path) -> None:
    """Raise `UserError` if a folder without a recipe holds files that are not those of a run.

    Such a folder is not a new run: a misspelt `--run` must not fill a folder of something else.
    """
    folder = Path(folder)
    if not folder.is_dir() or (folder / "recipe.yaml").is_file():
        return
    for entry in sorted(folder.iterdir()):
        own = any(fnmatchcase(entry.name, pattern) for pattern in _RUN_FILES)
        if not own and not any((entry / name).exists() for name in ("made.json", "model")):
            raise UserError(
                f"{folder} is not a run (it has no recipe.yaml) and holds other files, for example "
                f"{entry.name!r}: give --run a new or empty folder"
            )


def _check_begun_stages(folder: Path, begun: Recipe, resolved: Recipe) -> None:
    old, new = (comparable(recipe.model_dump(mode="json")) for recipe in (begun, resolved))
    changed = differences(old, new)
    if not changed:
        return
    for stage, files in begun_stages(folder).items():
        fixed = {
            key: pair
            for key, pair in changed.items()
            if stage in owners(key) and not is_whole_arm(key, pair)
        }
        if fixed:
            raise UserError(
                f"{stage} of run {folder} was made with other settings ({_list_changes(fixed)}): "
                f"use the old settings, give --run a new folder, or delete {files} in the run to "
                "make it again"
            )


def kept_root(folder: Path) -> Path | None:
    """Return the media folder that a stage of the run has stored; None if there is none."""
    kept = folder / "data_root"
    return folder / kept.read_text(encoding="utf-8").strip() if kept.is_file() else None


def claim(path: Path, made: dict[str, Any]) -> None:
    """Record the settings that a journal is made with in `path`, or check that they are the same.

    Raises `UserError` with the keys that differ: one journal never mixes two models or settings.
    Free settings may differ. A setting that only one version of p2r or one engine records is not
    compared.
    """
    if not path.is_file():
        write_json(path, made)
        return
    old, new = comparable(read_json(path)), comparable(json.loads(json.dumps(made)))
    changed = {
        key: pair
        for key, pair in differences(old, new, common_only=True).items()
        if not is_free(key)
    }
    if changed:
        stage = path.name.removesuffix(".made.json")
        files = path.parent if path.name == "made.json" else path.with_name(f"{stage}.*")
        raise UserError(
            f"{path} says that this stage was made with other settings "
            f"({_list_changes(changed)}): use another run folder, or delete {files} to make it "
            "again"
        )


def _list_changes(changed: dict[str, tuple[Any, Any]]) -> str:
    return "; ".join(
        f"{key} was {_shorten(old)}, now {_shorten(new)}" for key, (old, new) in changed.items()
    )


def _shorten(value: Any) -> str:
    """Return a value as text. A long one (a prompt file) is cut, and its hash tells it apart."""
    text = repr(value)
    if len(text) <= 300:
        return text
    return f"{text[:60]}… (hash {hashlib.sha256(text.encode()).hexdigest()[:8]})"


def differences(
    old: Any, new: Any, prefix: str = "", *, common_only: bool = False
) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two nested mappings differ, with both values.

    A value that is missing on one side is None; with `common_only` it is not compared.
    """
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return {} if old == new else {prefix.rstrip("."): (old, new)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in [*old, *(k for k in new if k not in old)]:
        if common_only and not (key in old and key in new):
            continue
        found |= differences(old.get(key), new.get(key), f"{prefix}{key}.", common_only=common_only)
    return found
