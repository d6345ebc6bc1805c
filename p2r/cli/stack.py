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
from typing import Literal, NamedTuple

from p2r.patches.torchvision_operators import declare_operators
from p2r.runs import version_of

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
    findings: list[Finding] = []
    for check in (
        _python,
        _packages,
        _torch,
        _torchvision,
        _decoders,
        _models,
        _optional,
        _machine,
    ):
        findings.extend(check())
    return findings


def _python() -> Iterator[Finding]:
    right = sys.version_info[:2] == (3, 11)
    advice = "" if right else "use Python 3.11: requirements.lock is for that version"
    yield Finding("python", "ok" if right else "fault", platform.python_version(), advice)


def _packages() -> Iterator[Finding]:
    for package in NEEDED:
        version = version_of(package)
        state: State = "ok" if version else "fault"
        yield Finding(package, state, version or "missing", "" if version else "run: make install")


def _torch() -> Iterator[Finding]:
    if torch := _try_import("torch"):
        cuda = torch.cuda.is_available()
        device = (
            torch.cuda.get_device_name(0) if cuda else f"CPU, {torch.get_num_threads()} threads"
        )
        yield Finding("torch", "ok", f"{torch.__version__} on {device}")
    else:
        yield Finding("torch", "fault", "missing or broken", "run: make install")


def _torchvision() -> Iterator[Finding]:
    spec = PathFinder.find_spec("torchvision")
    if spec is None:
        yield Finding("torchvision", "fault", "missing", "run: make install")
        return
    version = version_of("torchvision") or "unknown version"
    if declare_operators(spec):
        yield Finding(
            "torchvision",
            "note",
            f"{version}, its compiled part does not work with this torch",
            "nothing to do: p2r does not need the compiled part. To repair it, install the "
            "torchvision build for this torch",
        )
    else:
        yield Finding("torchvision", "ok", f"{version}, complete")


def _decoders() -> Iterator[Finding]:
    for module, package, use in (
        ("decord", "decord", "the first decoder"),
        ("av", "av", "for files that decord cannot read"),
    ):
        loaded = _try_import(module)
        version = version_of(package) or "missing"
        if loaded:
            yield Finding(f"decoder {module}", "ok", f"{version}, {use}")
        else:
            yield Finding(f"decoder {module}", "fault", version, f"run: pip install {package}")


def _models() -> Iterator[Finding]:
    folder = Path(__file__).parents[1] / "playground" / "models"
    for name in ("base", "teacher"):
        weights = list((folder / name).glob("*.safetensors"))
        size = sum(file.stat().st_size for file in weights) / 2**20
        if weights:
            yield Finding(f"playground/{name}", "ok", f"{size:.1f} MiB")
        else:
            yield Finding(
                f"playground/{name}",
                "fault",
                "missing",
                "install p2r again: the model files are missing",
            )


def _optional() -> Iterator[Finding]:
    for package, (use, extra) in OPTIONAL.items():
        if version := version_of(package):
            yield Finding(package, "ok", f"{version}, {use}")
        else:
            advice = f"needed only for {use}: pip install 'p2r[{extra}]'"
            yield Finding(package, "note", "not installed", advice)
    keyed = bool(os.environ.get("ANTHROPIC_API_KEY") or os.environ.get("ANTHROPIC_AUTH_TOKEN"))
    yield Finding(
        "API key for Claude",
        "ok" if keyed else "note",
        "set" if keyed else "not set",
        "" if keyed else "needed only for the judge 'claude': set ANTHROPIC_API_KEY",
    )


def _machine() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    low = free < 2
    advice = "a demo run needs about 1 GiB in this folder" if low else ""
    yield Finding("free disk", "note" if low else "ok", f"{free:.0f} GiB", advice)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    advice = "the demo needs about 6 GiB" if total < 6 else ""
    yield Finding("memory", "note" if total < 6 else "ok", f"{total:.0f} GiB", advice)


def _try_import(module: str):
    """Return the module; None if it is missing or broken.

    An OSError means that a library which the module needs is missing.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError):
        return None
