"""Run folders: one recipe, one folder, everything that its numbers depend on.

A run holds `recipe.yaml` (resolved), `environment.json` (versions, platform, commit), the journals
of its stages, `cases.parquet`, checkpoints and result files. A run is resumed with the recipe that
began it: a changed recipe is refused, so that no file ever mixes two of them.
"""

from __future__ import annotations

from p2r.errors import UserError
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from p2r import __version__
from p2r.runs.recipe import Recipe, VllmSettings, load_recipe

# These change how fast a stage runs, what it keeps on disk or when it gives up, not what it
# computes: a resumed run may change them.
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
_BUFFER = 2**20  # bytes; lines of cases are long
PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "decord",
    "av",
    "duckdb",
    "pyarrow",
    "numpy",
    "rouge-score",
    "jiwer",
    "anthropic",
    "gradio",
    "vllm",
)


@dataclass(frozen=True)
class Run:
    """A run folder and its recipe."""

    folder: Path
    recipe: Recipe

    @property
    def name(self) -> str:
        """The folder's name: the `run` of every trace made in it."""
        return self.folder.name

    def path(self, *parts: str) -> Path:
        """A path inside the run; its folder exists."""
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
    """Begin a run, or resume it with the recipe it keeps.

    Without `recipe` a run in progress goes on with its own and a new one takes `tiny`. Raises
    `UserError` for a recipe that differs from the run's (naming the keys), for a folder that is no
    run where one must exist.
    """
    folder = Path(folder)
    kept = folder / "recipe.yaml"
    if must_exist:
        check_run(folder)
    if not kept.is_file():
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file: give --run a folder")
        resolved = load_recipe(recipe or "tiny", list(overrides))
        folder.mkdir(parents=True, exist_ok=True)
        write_text(kept, resolved.to_yaml())
    else:
        begun = load_recipe(kept)
        resolved = load_recipe(recipe or kept, list(overrides))
        _check_same_recipe(folder, begun, resolved)
        if resolved != begun:
            write_text(kept, resolved.to_yaml())
    _record_environment(folder / "environment.json")
    return Run(folder, resolved)


def check_run(folder: str | Path) -> None:
    """Raise `UserError` where a folder is no run; nothing is written."""
    folder = Path(folder)
    if not (folder / "recipe.yaml").is_file():
        known = "is no run (it holds no recipe.yaml)" if folder.is_dir() else "does not exist"
        raise UserError(f"run folder {folder} {known}: give a folder that `p2r` began")


def _check_same_recipe(folder: Path, begun: Recipe, resolved: Recipe) -> None:
    changed = differences(begun.model_dump(mode="json"), resolved.model_dump(mode="json"))
    fixed = {key: pair for key, pair in changed.items() if key not in FREE_KEYS}
    if fixed:
        listed = "; ".join(f"{key} was {old!r}, now {new!r}" for key, (old, new) in fixed.items())
        raise UserError(
            f"run {folder} was begun with another recipe ({listed}): "
            "give --run a new folder, or leave the recipe as it was"
        )


def claim(path: Path, made: dict[str, Any]) -> None:
    """Say how a journal is made, in `path` beside it, or check that it still is made that way.

    Raises `UserError` naming the keys that differ: one journal never mixes two models or settings.
    """
    if not path.is_file():
        write_json(path, made)
        return
    changed = differences(read_json(path), json.loads(json.dumps(made)))
    if changed:
        stage = path.name.removesuffix(".made.json")
        files = path.parent if path.name == "made.json" else path.with_name(f"{stage}.*")
        listed = "; ".join(f"{key} was {old!r}, now {new!r}" for key, (old, new) in changed.items())
        raise UserError(
            f"{path} says this stage was made otherwise ({listed}): "
            f"use another run folder, or delete {files} to make it anew"
        )


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two nested mappings differ, with both values (None where absent)."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return {} if old == new else {prefix.rstrip("."): (old, new)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in [*old, *(k for k in new if k not in old)]:
        found |= differences(old.get(key), new.get(key), f"{prefix}{key}.")
    return found


def environment() -> dict[str, Any]:
    """What a number may depend on besides the recipe; nothing personal, no environment
    variables.
    """
    return {
        "p2r": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: v for name in PACKAGES if (v := version_of(name))},
    }


def version_of(package: str) -> str | None:
    """The installed version of a package, or None; imports nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def use_threads(recipe: Recipe) -> None:
    """Let torch use as many threads as the recipe says; all of the machine's where it says
    nothing.
    """
    if recipe.threads is not None:
        import torch

        torch.set_num_threads(recipe.threads)


def quiet_libraries() -> None:
    """Keep the model library's bars and notes out of a stage's own output."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def finished_model(out: Path) -> Path | None:
    """`out/model` of a training stage that is done, None of one that is not.

    The model is there whole or not at all. Checkpoints that a kill in the last moment left beside
    it are removed.
    """
    model = out / "model"
    if not model.is_dir():
        return None
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return model


def model_fingerprint(folder: str | Path) -> str:
    """12 hex characters that name a model's weights: sizes, and first and last MiB, of its weight
    files.

    A hub id that is no folder is its own fingerprint.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return str(folder)
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as weights:
            digest.update(weights.read(2**20))
            weights.seek(max(0, size - 2**20))
            digest.update(weights.read(2**20))
    return digest.hexdigest()[:12]


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text so that a reader sees the old file or the new one, never half."""
    with replacing(path) as file:
        file.write(text)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of `path` when the block ends well, on disk and whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", buffering=_BUFFER, encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read JSON; raises `UserError` naming the file where it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {path}: run the stage that writes it first") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it to make it anew") from error


def _record_environment(path: Path) -> None:
    """The environment that began the run; later ones that differ are added with their date."""
    now = environment()
    if not path.is_file():
        write_json(path, {**now, "since": _today(), "later": []})
        return
    kept = read_json(path)
    latest = kept["later"][-1] if kept["later"] else kept
    if any(latest.get(key) != value for key, value in now.items()):
        kept["later"].append({**now, "since": _today()})
        write_json(path, kept)


def _today() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """The commit of the checkout this package runs from; None for an installed one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
