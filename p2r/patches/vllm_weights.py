"""Load new weights into the LM head too, in vLLM's CPU build.

Library: vLLM 0.31, CPU build.
Reason: on a CPU vLLM computes with packed copies of its weights. `reload_weights` packs every layer
again except the LM head of a model whose head is tied to its embeddings: if two layers share one
weight, it packs only the first (limitation 2 of `vllm.model_executor.model_loader.reload`). The
LM head would silently continue with the old weights.
Can go when: `reload_weights` packs tied heads.
"""

from __future__ import annotations

from typing import Any

from p2r.patches.on_import import after_import

MODULE = "vllm.v1.worker.cpu_model_runner"


def apply() -> None:
    """Change vLLM's runner in this OS process, now or when it is imported."""
    after_import(MODULE, mend)


def mend(module: Any) -> None:
    """Make the runner pack the layers that its reload leaves out."""
    reload = module.CPUModelRunner.reload_weights
    if reload.__name__ == "reload_and_pack":
        return

    def reload_and_pack(runner: Any, *arguments: Any, **more: Any) -> None:
        reload(runner, *arguments, **more)
        pack(runner.get_model())

    module.CPUModelRunner.reload_weights = reload_and_pack


def pack(model: Any) -> None:
    """Pack the layers that keep their weight and its packed copy: embeddings and head."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    for layer in model.modules():
        if hasattr(layer, "cpu_linear") and layer.weight.numel():
            dispatch_cpu_unquantized_gemm(layer, remove_weight=False)
