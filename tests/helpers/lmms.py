"""The task functions of lmms-eval, where it is installed: without its package's own start.

Its `__init__` brings in models and servers; the functions that score need little. Set
P2R_LMMS_EVAL to the folder that holds the package `lmms_eval` (as of `pip install --no-deps
--target FOLDER lmms-eval loguru`), or have it installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest


@cache  # found before its name stands for a bare package
def find() -> Path | None:
    """The folder of the package, in the environment or where P2R_LMMS_EVAL says."""
    if folder := os.environ.get("P2R_LMMS_EVAL"):
        sys.path.append(folder)
        return Path(folder) / "lmms_eval"
    spec = importlib.util.find_spec("lmms_eval")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def load(task: str) -> ModuleType:
    """`lmms_eval.tasks.TASK.utils`; skips, saying why, where it cannot be had."""
    root = find()
    if root is None:
        pytest.skip("lmms-eval is not installed: set P2R_LMMS_EVAL to a folder that holds it")
    os.environ.setdefault("HF_HOME", "hf")  # read, never written, by the tasks' modules
    for name, path in (("lmms_eval", root), ("lmms_eval.tasks", root / "tasks")):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(path)]
            sys.modules[name] = package
    try:
        return importlib.import_module(f"lmms_eval.tasks.{task}.utils")
    except ImportError as error:
        pytest.skip(f"lmms-eval's task {task} needs {error.name}")
