"""Loads the task functions of lmms-eval without its `__init__`, which imports models and servers.

Install lmms-eval, or set P2R_LMMS_EVAL to a folder that holds the package `lmms_eval`. `pip install
--no-deps --target FOLDER lmms-eval loguru` makes such a folder.
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


@cache  # `load` replaces the package by an empty one, so it must be found before
def find() -> Path | None:
    """Return the folder of the package: in P2R_LMMS_EVAL or in the environment. None without it."""
    if folder := os.environ.get("P2R_LMMS_EVAL"):
        sys.path.append(folder)
        return Path(folder) / "lmms_eval"
    spec = importlib.util.find_spec("lmms_eval")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def load(task: str) -> ModuleType:
    """Return the module `lmms_eval.tasks.TASK.utils`. Without it, skip the test with the reason."""
    root = find()
    if root is None:
        pytest.skip("lmms-eval is not installed: set P2R_LMMS_EVAL to a folder that holds it")
    os.environ.setdefault("HF_HOME", "hf")  # the tasks' modules read this
    for name, path in (("lmms_eval", root), ("lmms_eval.tasks", root / "tasks")):
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [str(path)]
            sys.modules[name] = package
    try:
        return importlib.import_module(f"lmms_eval.tasks.{task}.utils")
    except ImportError as error:
        pytest.skip(f"lmms-eval's task {task} needs {error.name}")
