"""Give TRL's reference model its weights under FSDP2.

Library: TRL 1.16.
Reason: with `fsdp_cpu_ram_efficient_loading`, transformers loads weights on rank 0 only and
accelerate sends them to the other ranks when it prepares a model. TRL prepares its reference model
without accelerate, so all other ranks keep zeros: the KL term was 2.69 at step 1, where 0 is right.
TRL also shards the reference as one piece, so a forward pass gathers all its weights at once.
Can go when: TRL prepares the reference model with accelerate.
"""

from __future__ import annotations

from typing import Any

from p2r.patches.on_import import after_import


def apply() -> None:
    """Let accelerate prepare the models that TRL's GRPO trainer shards itself."""
    after_import("trl.trainer.grpo_trainer", prepare_with_accelerate)


def prepare_with_accelerate(module: Any) -> None:
    """Replace `prepare_fsdp` of `trl.trainer.grpo_trainer`, for FSDP2."""
    original = module.prepare_fsdp

    def prepare_fsdp(model: Any, accelerator: Any) -> Any:
        if not accelerator.is_fsdp2:
            return original(model, accelerator)
        from accelerate.utils.fsdp_utils import fsdp2_prepare_model

        return fsdp2_prepare_model(accelerator, model).eval()

    module.prepare_fsdp = prepare_fsdp
