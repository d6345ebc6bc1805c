"""What must be set right in libraries as they are imported.

torchvision is made importable beside a torch that its compiled part was not built for. The
registry's torchvision wheel is built for the CUDA build of torch. Beside the CPU build its
compiled part cannot load, and `import torchvision` then fails with "operator torchvision::nms does
not exist", which takes `AutoProcessor` and TRL's trainers down with it. Declaring the schemas of
the two operators that torchvision registers unconditionally is enough: nothing here calls them.

TRL imports vLLM wherever it is installed, used or not, which takes half a minute. It is told that
there is none: `p2r.training.vllm_rollouts` drives vLLM without TRL's help.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")


class TorchvisionFinder(MetaPathFinder):
    """Declares torchvision's operators just before its first import; finds nothing itself.

    A hook rather than a call, so that `import p2r` stays fast and imports no torch.
    """

    def find_spec(self, name: str, path=None, target=None) -> None:
        if name == "torchvision":
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            declare_operators(PathFinder.find_spec(name))


class AfterImport(MetaPathFinder):
    """Changes a module right after its first import; finds nothing itself."""

    def __init__(self, module: str, change: Callable[[Any], None]) -> None:
        self.module, self.change = module, change

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name != self.module:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_change(module: Any) -> None:
            execute(module)
            self.change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def change_on_import(module: str, change: Callable[[Any], None]) -> None:
    """Change a module, once: now if it is imported, else when it is."""
    if module in sys.modules:
        change(sys.modules[module])
        return
    hooks = (finder for finder in sys.meta_path if isinstance(finder, AfterImport))
    if not any(hook.module == module for hook in hooks):
        sys.meta_path.insert(0, AfterImport(module, change))


def install() -> None:
    """Install the import hooks, once each."""
    hooked = any(isinstance(finder, TorchvisionFinder) for finder in sys.meta_path)
    if not hooked and "torchvision" not in sys.modules:
        sys.meta_path.insert(0, TorchvisionFinder())
    if "trl" not in sys.modules:
        change_on_import("trl.import_utils", _hide_vllm)


def _hide_vllm(module: Any) -> None:
    module.is_vllm_available = lambda min_version=None: False


def declare_operators(spec: ModuleSpec | None) -> bool:
    """Declare the operators unless torchvision, at `spec`, loads whole; says whether it did."""
    if spec is None or spec.origin is None or importlib.util.find_spec("torch") is None:
        return False
    import torch

    for library in sorted(Path(spec.origin).parent.glob("_C.*")):
        try:
            torch.ops.load_library(str(library))
            return False
        except (ImportError, OSError):
            continue
    for operator in OPERATORS:
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f"torchvision::{operator}", SCHEMA)
    return True
