"""What of a model is trained: all of it or adapters (LoRA), with or without its vision tower.

SFT and RL read the same section `tuning` of the recipe. A model trained through adapters leaves the
stage as whole weights, adapters merged in, and loads like any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from p2r import data
from p2r.runs.recipe import TuningSettings

# Where adapters go: every linear layer of the decoder and, unless it is frozen, of the vision tower
# with its merger (the patch embedding is a convolution and has none).
_DECODER = r"language_model\.layers\.\d+\.\w+\.(q|k|v|o|gate|up|down)_proj"
_VISION = r"visual\.(blocks\.\d+\.\w+\.(qkv|proj|gate_proj|up_proj|down_proj)|merger\.mlp\.[02])"


def lora_config(tuning: TuningSettings) -> LoraConfig | None:
    """The adapters a recipe asks for; None where it trains the weights themselves.

    Adapters begin as no change: before the first update the model is the start model, and without
    its adapters it stays so. RL takes it, adapters off, as the reference of the KL term.
    """
    if tuning.lora_rank is None:
        return None
    places = _DECODER if tuning.freeze_vision else f"({_DECODER}|{_VISION})"
    return LoraConfig(
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha,
        lora_dropout=tuning.lora_dropout,
        target_modules=rf".*\.{places}",
        task_type="CAUSAL_LM",
    )


def freeze_vision(model: Any) -> None:
    """Take the vision tower, its merger included, out of the training.

    It then runs without gradient: gradient checkpointing makes the inputs of every tower require
    one, and the frozen tower would be kept, and gone through backwards, for nothing.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    tower = base.model.visual
    tower.requires_grad_(False)
    tower.forward = torch.no_grad()(tower.forward)


def merge_adapters(start_model: str, adapters: Path, folder: Path, dtype: torch.dtype) -> None:
    """Save `start_model` with the adapters merged in as a whole model, in float32.

    `dtype` is the one that the start model was trained on in: its weights are rounded to it first,
    so that what is saved is what was trained. The sum is kept in float32, in which a small change
    of a large weight is not lost. For one process: takes 4 bytes of main memory per parameter.
    """
    # Inside a ZeRO-3 training every model that is loaded is shared out over all processes.
    unset_hf_deepspeed_config()
    base = data.load_model(start_model, dtype).float()
    PeftModel.from_pretrained(base, adapters).merge_and_unload().save_pretrained(folder)
