"""Which weights are trained, and the settings that SFT and RL pass to TRL in the same way.

SFT and RL read the same recipe section, `tuning`: all weights or adapters (LoRA), with or without
the vision tower. A model trained with adapters is saved as whole weights and loads like any other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch.distributed.tensor import DTensor
from transformers import BitsAndBytesConfig
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from p2r import data
from p2r.errors import TrainingError, UserError
from p2r.families import family_of_model
from p2r.families.base import Family
from p2r.runs.recipe import Recipe, TuningSettings


def shared_arguments(recipe: Recipe, checkpoints: Path, validates: bool = False) -> dict[str, Any]:
    """Return the settings of `TrainingArguments` that SFT and RL set in the same way.

    Weights are trained in float32 under bfloat16 autocast. In pure bfloat16, rounding would lose an
    AdamW update of 1e-6. (DeepSpeed keeps its own float32 copies, so its weights may be bfloat16.
    The frozen weights under adapters may be bfloat16 too; the adapters are float32.)
    """
    large = recipe.models.dtype == "bfloat16"
    if recipe.tuning.lora_rank is not None and os.environ.get("ACCELERATE_USE_FSDP") == "true":
        raise UserError(
            "FSDP2 trains all weights: unset tuning.lora_rank, or train the adapters on one GPU or "
            "with configs/zero3.yaml"
        )
    return {
        "output_dir": str(checkpoints),
        "seed": recipe.seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": large,
        "gradient_checkpointing": large,  # saves memory on large models, costs time on small ones
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # show a loss that is not a number as such
        "save_strategy": "steps",
        "save_total_limit": checkpoint_limit(recipe.keep, validates),
        "report_to": "none",  # see `p2r.training.stage.trackers`
        # The name of the run in trackers: RUN/STAGE
        "run_name": f"{checkpoints.resolve().parent.parent.name}/{checkpoints.parent.name}",
        "disable_tqdm": True,  # see `p2r.training.stage.show_progress`
        **optimizer_arguments(recipe.tuning),
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }


# The names of transformers for `tuning.optimizer`.
_OPTIMIZERS = {"adamw_8bit": "adamw_bnb_8bit", "paged_adamw_8bit": "paged_adamw_8bit"}


def optimizer_arguments(tuning: TuningSettings) -> dict[str, str]:
    """Return the setting of `TrainingArguments` for another optimiser than the default."""
    if tuning.optimizer == "adamw":
        return {}
    need_library("bitsandbytes", f"tuning.optimizer={tuning.optimizer}")
    return {"optim": _OPTIMIZERS[tuning.optimizer]}


def load_arguments(recipe: Recipe) -> dict[str, Any]:
    """Return how `from_pretrained` loads a model for training, besides its dtype."""
    return {"attn_implementation": data.choose_attention(recipe.models), **quantisation(recipe)}


def quantisation(recipe: Recipe) -> dict[str, BitsAndBytesConfig]:
    """Return how `from_pretrained` loads the frozen weights under adapters (QLoRA, 2305.14314).

    The adapters are merged into the weights in their full precision at the end.
    """
    bits = recipe.tuning.quantise
    if bits is None:
        return {}
    need_library("bitsandbytes", f"tuning.quantise={bits}")
    if bits == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=recipe.models.dtype,
    )
    return {"quantization_config": settings}


def need_library(package: str, setting: str) -> None:
    """Raise `TrainingError` if a package that a setting needs is not installed."""
    if find_spec(package) is None:
        raise TrainingError(f"{setting} needs {package}: pip install -e '.[memory]'")


def checkpoint_limit(keep: str, validates: bool) -> int | None:
    """Return how many checkpoints a training holds at once; None: all.

    At least two, because the older checkpoint is needed until the newer one is complete. A training
    that validates (`validates`) holds the best checkpoint too.
    """
    if keep == "all":
        return None
    newest = max(2, int(keep.removeprefix("last "))) if keep.startswith("last") else 2
    return newest + validates


def training_dtype(recipe: Recipe) -> str:
    """Return the dtype of the weights during training; see `shared_arguments`."""
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"
    kept = deepspeed or recipe.tuning.lora_rank is not None
    return recipe.models.dtype if kept else "float32"


def lora_config(tuning: TuningSettings, family: Family) -> LoraConfig | None:
    """Return the adapters of a recipe; None if the recipe trains all weights.

    Every linear layer of the decoder gets one. So does every linear layer of the vision tower with
    its mergers, unless the tower is frozen.

    New adapters change nothing: before the first update the model equals the start model. RL uses
    the model without its adapters as the reference of the KL term.
    """
    if tuning.lora_rank is None:
        return None
    places = family.decoder_layers
    if not tuning.freeze_vision:
        places = f"({places}|{family.vision_layers})"
    return LoraConfig(
        r=tuning.lora_rank,
        lora_alpha=tuning.lora_alpha,
        lora_dropout=tuning.lora_dropout,
        target_modules=rf".*\.{places}",
        task_type="CAUSAL_LM",
    )


def keep_adapters_float32(model: Any) -> None:
    """Undo TRL's cast of the trained parameters of a quantised model to bfloat16.

    In pure bfloat16, rounding would lose most of AdamW's updates of 1e-6.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def freeze_vision(model: Any) -> None:
    """Freeze the vision tower and its mergers, and run them without gradient.

    Gradient checkpointing makes the inputs of every tower require a gradient. Without `no_grad` the
    frozen tower would still keep its activations and run a backward pass.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    tower = family_of_model(base).tower_of(base)
    tower.requires_grad_(False)
    tower.forward = torch.no_grad()(tower.forward)


def merged_weights(
    model: PeftModel, gather: Callable[[list[torch.Tensor]], AbstractContextManager[Any]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the name and value of every weight of the base model, with its adapter added.

    The sum is a new tensor, rounded once to the dtype of the weight, and the model stays as it is.
    PEFT's `merge_adapter` and `unmerge_adapter` change the weights in place: in bfloat16, the
    frozen weights are then not the same as before. `gather` completes divided parameters inside its
    block. All workers must read all weights.
    """
    base = model.get_base_model()
    layers = {name: layer for name, layer in base.named_modules() if isinstance(layer, LoraLayer)}
    for name, weight in base.named_parameters():
        if model.prefix in name:  # the adapter's own weights
            continue
        layer, adapter = layers.get(name.removesuffix(".base_layer.weight")), model.active_adapter
        parts = (
            [] if layer is None else [layer.lora_A[adapter].weight, layer.lora_B[adapter].weight]
        )
        with gather([weight, *parts]):
            with torch.no_grad():
                value = weight.data
                if layer is not None:
                    value = (value.float() + layer.get_delta_weight(adapter)).to(value.dtype)
                if isinstance(value, DTensor):  # of FSDP2
                    value = value.full_tensor()
            yield name.replace(".base_layer", ""), value


def merge_adapters(start_model: str, adapters: Path, folder: Path, dtype: torch.dtype) -> None:
    """Merge adapters into `start_model` and save the whole model in float32.

    `dtype` is the dtype of the start model during training. Its weights are rounded to `dtype`
    first, so that the saved model is the trained one. The sum is stored in float32, because a lower
    precision would lose small changes of large weights. Call it in one worker; it needs 4 bytes of
    main memory per parameter.
    """
    # Inside a ZeRO-3 training, every loaded model is split over all workers.
    unset_hf_deepspeed_config()
    base = data.load_model(start_model, dtype).float()
    PeftModel.from_pretrained(base, adapters).merge_and_unload().save_pretrained(folder)
