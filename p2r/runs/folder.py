"""Run folders: one recipe, one folder, and everything that its numbers depend on.

A run holds `recipe.yaml` (complete), `environment.json` (versions, platform, commit), the journals
of its stages, `cases.parquet`, checkpoints and result files. A run resumes only with the recipe
that began it: p2r refuses a changed recipe, so no file mixes the results of two recipes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2r.errors import UserError
from p2r.files.atomic import read_json, write_json, write_text
from p2r.runs.recipe import Recipe, VllmSettings, load_recipe
from p2r.runs.software import record_environment

# These settings change how fast a stage runs, what it keeps on disk or when it gives up. They do
# not change its result, so a resumed run may change them.
FREE_KEYS = {
    "threads",
    "generate.batch_size",
    "generate.patience",
    "generate.hard_samples",
    "eval.batch_size",
    "video.timeout",
    "rl.judge_timeout",
    "rl.judge_retries",
    "rl.max_unknown",
    "report_to",
    "keep",
    *(
        f"judging.{key}"
        for key in (
            "concurrency",
            "timeout",
            "call_limit",
            "retries",
            "budget",
            "batch",
            "batch_size",
            "batch_poll",
            "cache",
        )
    ),
    *(f"server.{key}" for key in ("base_url", "concurrency", "timeout", "attempts")),
    *(f"vllm.{key}" for key in VllmSettings.model_fields),
}


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

    Without `recipe`, a run that exists uses its own recipe and a new run uses `tiny`. Raises
    `UserError` if the recipe differs from the run's (the message names the keys), or if
    `must_exist` is true and the folder is not a run.
    """
    folder = Path(folder)
    kept = folder / "recipe.yaml"
    if must_exist:
        check_run(folder)
    if not kept.is_file():
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file: give --run a folder")
        resolved = load_recipe(recipe or "tiny", list(overrides))
        write_text(kept, resolved.to_yaml())
    else:
        begun = load_recipe(kept)
        resolved = load_recipe(recipe or kept, list(overrides))
        _check_same_recipe(folder, begun, resolved)
        if resolved != begun:
            write_text(kept, resolved.to_yaml())
    record_environment(folder / "environment.json")
    return Run(folder, resolved)


def check_run(folder: str | Path) -> None:
    """Raise `UserError` if a folder is not a run; write nothing."""
    folder = Path(folder)
    if not (folder / "recipe.yaml").is_file():
        problem = "is not a run (it has no recipe.yaml)" if folder.is_dir() else "does not exist"
        raise UserError(f"run folder {folder} {problem}: give a folder that `p2r` began")


def _check_same_recipe(folder: Path, begun: Recipe, resolved: Recipe) -> None:
    changed = differences(begun.model_dump(mode="json"), resolved.model_dump(mode="json"))
    fixed = {key: pair for key, pair in changed.items() if key not in FREE_KEYS}
    if fixed:
        raise UserError(
            f"run {folder} was begun with another recipe ({_list_changes(fixed)}): "
            "give --run a new folder, or use the old settings"
        )


def claim(path: Path, made: dict[str, Any]) -> None:
    """Record the settings that a journal is made with in `path`, or check that they are the same.

    Raises `UserError` with the keys that differ: one journal never mixes two models or settings.
    """
    if not path.is_file():
        write_json(path, made)
        return
    changed = differences(read_json(path), json.loads(json.dumps(made)))
    if changed:
        stage = path.name.removesuffix(".made.json")
        files = path.parent if path.name == "made.json" else path.with_name(f"{stage}.*")
        raise UserError(
            f"{path} says that this stage was made with other settings "
            f"({_list_changes(changed)}): use another run folder, or delete {files} to make it "
            "again"
        )


def _list_changes(changed: dict[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"{key} was {old!r}, now {new!r}" for key, (old, new) in changed.items())


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two nested mappings differ, with both values.

    A value that is missing on one side is None.
    """
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return {} if old == new else {prefix.rstrip("."): (old, new)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in [*old, *(k for k in new if k not in old)]:
        found |= differences(old.get(key), new.get(key), f"{prefix}{key}.")
    return found
