"""Make torchvision importable beside a torch that its compiled part was not built for.

The registry's torchvision wheel is built for the CUDA build of torch. Beside the CPU build its
compiled part cannot load, and `import torchvision` then fails with "operator torchvision::nms does
not exist", which takes `AutoProcessor` and TRL's trainers down with it. Declaring the schemas of
the two operators that torchvision registers unconditionally is enough: nothing here calls them.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

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


def install() -> None:
    """Install the import hook, once, unless torchvision is imported already."""
    hooked = any(isinstance(finder, TorchvisionFinder) for finder in sys.meta_path)
    if not hooked and "torchvision" not in sys.modules:
        sys.meta_path.insert(0, TorchvisionFinder())


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
