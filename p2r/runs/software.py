"""Record the software and the machine of a run, and set up this OS process for a stage."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2r import __version__
from p2r.files.atomic import read_json, write_json
from p2r.runs.recipe import Recipe

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
    "decord2",
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


def environment() -> dict[str, Any]:
    """Return versions, platform and commit: everything besides the recipe that can change a number.

    It holds nothing personal and no environment variables.
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


def record_environment(path: Path) -> None:
    """Write the environment that began a run; append a later one, with its date, if it differs."""
    now = environment()
    if not path.is_file():
        write_json(path, {**now, "since": _now(), "later": []})
        return
    kept = read_json(path)
    latest = kept["later"][-1] if kept["later"] else kept
    if any(latest.get(key) != value for key, value in now.items()):
        kept["later"].append({**now, "since": _now()})
        write_json(path, kept)


def version_of(package: str) -> str | None:
    """Return the installed version of a package, or None; imports nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def use_threads(recipe: Recipe) -> None:
    """Set the number of torch's threads if the recipe says one."""
    if recipe.threads is not None:
        import torch

        torch.set_num_threads(recipe.threads)


def quiet_libraries() -> None:
    """Turn off transformers' progress bars and notes, to keep a stage's output readable."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    """Return the commit of the checkout that p2r runs from; None for an installed package."""
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


def visible_gpus(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the GPUs that this OS process may use, in the form of CUDA_VISIBLE_DEVICES."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def is_main_worker() -> bool:
    """Return whether this OS process runs alone or is the main worker of `accelerate launch`."""
    return os.environ.get("RANK", "0") == "0"
