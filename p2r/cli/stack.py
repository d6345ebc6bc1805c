"""The checks of `p2r doctor`: what is installed, what is missing, and how to fix it."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple

from p2r.patches.torchvision_operators import declare_operators
from p2r.runs import shipped_models, version_of
from p2r.runs.models import EMBEDDED, SHIPPED

State = Literal["ok", "note", "fault"]
NEEDED = (
    "transformers",
    "trl",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "pydantic",
    "pyarrow",
    "duckdb",
    "rouge-score",
    "jiwer",
    "typer",
)
# Optional packages: package -> (its use, the extra that installs it).
OPTIONAL = {
    "gradio": ("the case browser", "app"),
    "anthropic": ("Claude as the judge", "judges"),
    "jupyterlab": ("the notebooks", "notebooks"),
    "vllm": ("sampling at scale", "vllm"),
}


class Finding(NamedTuple):
    """One line of the report. `advice` says how to fix a note or a fault."""

    name: str
    state: State
    detail: str
    advice: str = ""


def inspect_stack() -> list[Finding]:
    """Run all checks, and return their findings in the order of the report. Never raises."""
    checks = (_python, _packages, _torch, _torchvision, _decoders, _models, _optional, _machine)
    return [finding for check in checks for finding in check()]


def _finding(
    name: str, good: object, detail: str, advice: str, otherwise: State = "fault"
) -> Finding:
    return Finding(name, "ok", detail) if good else Finding(name, otherwise, detail, advice)


def _python() -> Iterator[Finding]:
    right = (3, 11) <= sys.version_info[:2] <= (3, 13)
    advice = "use Python 3.11, 3.12 or 3.13: requirements.lock is for these versions"
    yield _finding("python", right, platform.python_version(), advice)


def _packages() -> Iterator[Finding]:
    for package in NEEDED:
        version = version_of(package)
        yield _finding(package, version, version or "missing", "run: make install")


def _torch() -> Iterator[Finding]:
    detail = "missing or broken"
    if torch := _try_import("torch"):
        cuda = torch.cuda.is_available()
        device = (
            torch.cuda.get_device_name(0) if cuda else f"CPU, {torch.get_num_threads()} threads"
        )
        detail = f"{torch.__version__} on {device}"
    yield _finding("torch", torch, detail, "run: make install")


def _torchvision() -> Iterator[Finding]:
    spec = PathFinder.find_spec("torchvision")
    if spec is None:
        yield Finding("torchvision", "fault", "missing", "run: make install")
        return
    broken = declare_operators(spec)
    state = "its compiled part does not work with this torch" if broken else "complete"
    yield _finding(
        "torchvision",
        not broken,
        f"{version_of('torchvision') or 'unknown version'}, {state}",
        "nothing to do: p2r does not need the compiled part. To repair it, install the "
        "torchvision build for this torch",
        "note",
    )


def _decoders() -> Iterator[Finding]:
    for module, use in (
        ("decord", "the first decoder"),
        ("av", "for files that decord cannot read"),
    ):
        loaded = _try_import(module)
        version = version_of(module) or version_of(f"{module}2") or "missing"  # decord2
        detail = f"{version}, {use}" if loaded else version
        yield _finding(f"decoder {module}", loaded, detail, "run: make install")


def _models() -> Iterator[Finding]:
    for name in sorted({*EMBEDDED, *shipped_models()}):
        weights = list((SHIPPED / name.removeprefix("playground/")).glob("*.safetensors"))
        size = sum(file.stat().st_size for file in weights) / 2**20
        detail = f"{size:.1f} MiB" if weights else "missing"
        advice = "install p2r again: the model files are missing"
        yield _finding(name, weights, detail, advice)


def _optional() -> Iterator[Finding]:
    for package, (use, extra) in OPTIONAL.items():
        version = version_of(package)
        detail = f"{version}, {use}" if version else "not installed"
        advice = f"needed only for {use}: pip install -e '.[{extra}]'"
        yield _finding(package, version, detail, advice, "note")
    keyed = os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN")
    advice = "needed only for the judge 'claude': set ANTHROPIC_API_KEY"
    yield _finding("API key for Claude", keyed, "set" if keyed else "not set", advice, "note")


def _machine() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    advice = "a demo run needs about 1 GiB in this folder"
    yield _finding("free disk", free >= 2, f"{free:.0f} GiB", advice, "note")
    if not hasattr(os, "sysconf"):  # Windows
        return
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield _finding("memory", total >= 6, f"{total:.0f} GiB", "the demo needs about 6 GiB", "note")


def _try_import(module: str) -> ModuleType | None:
    """Return the module; None if it is missing or broken.

    An OSError means that a library which the module needs is missing.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):
        return None
