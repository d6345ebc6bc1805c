"""Finds and loads models and their processors. Families differ in `p2r.families`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.utils import is_flash_attn_2_available

from p2r.errors import EngineError, UserError
from p2r.families import family_of_processor, find_family
from p2r.files.hub import check_hub_model
from p2r.runs.models import SHIPPED, shipped_models

if TYPE_CHECKING:
    from p2r.runs.recipe import Models

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def resolve_model(name_or_path: str | Path) -> str:
    """Return the folder or hub id of a model; `playground/NAME` is an embedded model."""
    name = str(name_or_path)
    kind, _, embedded = name.partition("/")
    if Path(name).is_file():
        raise EngineError(
            f"{name} is a file: give the folder of a model, a hub id or playground/NAME"
        )
    if Path(name).exists():
        return name
    if kind != "playground":
        # Report a mistyped folder at once. Only a valid hub id is searched on the hub.
        if not _HUB_ID.fullmatch(name) or Path(kind).is_dir():
            raise EngineError(
                f"no model folder {name!r}: give a folder, a hub id or playground/NAME"
            )
        return name
    if not (SHIPPED / embedded / "config.json").is_file():
        known = ", ".join(shipped_models())
        how = "; docs/playground.md says how to make it" if embedded.startswith("second/") else ""
        raise EngineError(f"no embedded model {name!r}: use one of {known or 'none'}{how}")
    return str(SHIPPED / embedded)


def check_model(name_or_path: str | Path) -> str:
    """Resolve a model and check that it supports video; raises `EngineError`."""
    path = resolve_model(name_or_path)
    file = Path(path) / "config.json"
    if not file.is_file():  # a hub id, or a folder that will fail to load
        return path
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise EngineError(f"{file} is not the config of a model: {error}") from error
    find_family(kind, str(name_or_path))
    return path


def find_model(name_or_path: str | Path) -> str:
    """Check a model like `check_model`, and check that a hub id is in the cache or on the hub.

    Raises `EngineError` within seconds if the hub does not answer or does not have the model.
    """
    path = check_model(name_or_path)
    if not Path(path).exists():
        try:
            check_hub_model(path)
        except UserError as error:
            raise EngineError(_explain(name_or_path, error)) from error
    return path


def load_model(
    name_or_path: str | Path,
    dtype: str | torch.dtype = "float32",
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Load a model in evaluation mode, only from safetensors; raises `EngineError`.

    `more` are further arguments of `from_pretrained`.
    """
    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    path = find_model(name_or_path)
    try:
        find_family(AutoConfig.from_pretrained(path).model_type, str(name_or_path))
        model = AutoModelForImageTextToText.from_pretrained(
            path, dtype=kind, use_safetensors=True, **more
        )
    except EngineError:
        raise
    except (OSError, ValueError) as error:
        raise EngineError(_explain(name_or_path, error)) from error
    return model.eval()


def choose_attention(models: Models) -> str:
    """Return the attention of transformers for the recipe's `models.attention`."""
    if models.attention != "auto":
        return models.attention
    flash = models.dtype == "bfloat16" and is_flash_attn_2_available()
    return "flash_attention_2" if flash else "sdpa"


def load_processor(name_or_path: str | Path) -> Any:
    """Load a model's processor (tokenizer, image and video processor); raises `EngineError`."""
    path = find_model(name_or_path)
    try:
        processor = AutoProcessor.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise EngineError(_explain(name_or_path, error)) from error
    family_of_processor(processor, str(name_or_path))
    return processor


def _explain(name: str | Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return f"cannot load model {str(name)!r} (a folder, a hub id, or playground/NAME): {reason}"
