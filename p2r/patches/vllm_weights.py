"""New weights for vLLM's CPU build, the LM head included.

On a CPU vLLM 0.31 computes with packed copies of its weights. `reload_weights` packs every layer
anew but the LM head of a model whose head is tied to its embeddings: of two layers with one weight
it sees the first alone (limitation 2 of `vllm.model_executor.model_loader.reload`). The copy would
go on giving the old weights' tokens, without an error.
"""

from __future__ import annotations

from typing import Any

from p2r.patches.imports import change_on_import

MODULE = "vllm.v1.worker.cpu_model_runner"


def install() -> None:
    """Mend vLLM in this process: at once if its runner is loaded, else when it is."""
    change_on_import(MODULE, mend)


def mend(module: Any) -> None:
    """Let the runner of vLLM's module pack again what its reload leaves."""
    reload = module.CPUModelRunner.reload_weights
    if reload.__name__ == "reload_and_pack":
        return

    def reload_and_pack(runner: Any, *arguments: Any, **more: Any) -> None:
        reload(runner, *arguments, **more)
        pack(runner.get_model())

    module.CPUModelRunner.reload_weights = reload_and_pack


def pack(model: Any) -> None:
    """Pack the layers that still hold their weight besides its packed copy: embeddings and head."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    for layer in model.modules():
        if hasattr(layer, "cpu_linear") and layer.weight.numel():
            dispatch_cpu_unquantized_gemm(layer, remove_weight=False)
