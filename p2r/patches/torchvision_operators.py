"""Make torchvision importable with a torch that its compiled part was not built for.

Library: torchvision 0.28 from the package registry, which is built for the CUDA build of torch.
Reason: with the CPU build of torch the compiled part cannot load. `import torchvision` then
fails with "operator torchvision::nms does not exist", and so do transformers' vision processors and
TRL's trainers. Declaring the schemas of two operators is enough; nothing in p2r calls them.
Can go when: torchvision imports with a torch of another build, or the registry serves matching
builds. `p2r doctor` says whether a machine needs the patch.
"""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

from p2r.patches.on_import import before_import

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")


def apply() -> None:
    """Declare the operators just before torchvision's first import, if it needs them."""
    before_import("torchvision", declare_operators)


def declare_operators(spec: ModuleSpec | None) -> bool:
    """Declare the operators unless the compiled part of torchvision, at `spec`, can be loaded.

    Returns whether it declared them.
    """
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
