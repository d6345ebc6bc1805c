"""Sizes of Qwen2.5-VL models: parameters and vision tokens, from a `config.json`. All are exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "tokens_per_second": 2,
}
# The keys that sizes depend on, from the config.json of the models at huggingface.co/Qwen.
PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "model_type": "qwen2_5_vl",
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": True,
        "vision_config": {**_VISION, "out_hidden_size": 2048},
    },
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "model_type": "qwen2_5_vl",
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": False,
        "vision_config": {**_VISION, "out_hidden_size": 3584},
    },
    "Qwen/Qwen2.5-VL-32B-Instruct": {
        "model_type": "qwen2_5_vl",
        "vocab_size": 152064,
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": False,
        "vision_config": {**_VISION, "intermediate_size": 3456, "out_hidden_size": 5120},
    },
    "Qwen/Qwen2.5-VL-72B-Instruct": {
        "model_type": "qwen2_5_vl",
        "vocab_size": 152064,
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 128000,
        "tie_word_embeddings": False,
        "vision_config": {**_VISION, "intermediate_size": 3456, "out_hidden_size": 8192},
    },
}


@dataclass(frozen=True)
class Architecture:
    """The sizes of a Qwen2.5-VL; `kv` is the total width of all key heads."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    kv: int
    tied: bool
    positions: int
    vision_hidden: int
    vision_intermediate: int
    vision_layers: int
    patch: int
    merge: int
    temporal_patch: int
    channels: int
    heads: int = 1

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Architecture:
        """Read the sizes from a `config.json`; `text_config` may hold those of the decoder."""
        text = config.get("text_config", config)
        vision = config["vision_config"]
        head = text["hidden_size"] // text["num_attention_heads"]
        return cls(
            vocabulary=text["vocab_size"],
            hidden=text["hidden_size"],
            intermediate=text["intermediate_size"],
            layers=text["num_hidden_layers"],
            kv=head * text["num_key_value_heads"],
            tied=config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)),
            positions=text["max_position_embeddings"],
            vision_hidden=vision["hidden_size"],
            vision_intermediate=vision["intermediate_size"],
            vision_layers=vision["depth"],
            patch=vision["patch_size"],
            merge=vision["spatial_merge_size"],
            temporal_patch=vision["temporal_patch_size"],
            channels=vision.get("in_channels", vision.get("in_chans", 3)),
            heads=text["num_attention_heads"],
        )

    @property
    def factor(self) -> int:
        """The side length, in pixels, of the block behind one vision token."""
        return self.patch * self.merge


def vision_tokens(model: Architecture, frames: int, height: int, width: int) -> int:
    """Return the tokens of a video: ⌈frames / temporal patch⌉ · height · width / (patch · merge)².

    Qwen2.5-VL's processor gives the same count. Height and width are multiples of `model.factor`.
    """
    return ceil(frames / model.temporal_patch) * (height * width // model.factor**2)


def most_vision_tokens(model: Architecture, frames: int, pixels: int) -> int:
    """Return the most tokens that frames of at most `pixels` pixels can have, in any shape."""
    return ceil(frames / model.temporal_patch) * (pixels // model.factor**2)


def count_parameters(model: Architecture) -> dict[str, int]:
    """Count parameters by part: "embeddings", "decoder", "vision"; exact.

    With hidden size h, key width k, MLP width i, vocabulary V, vision sizes v and w, merge m:
    - embeddings: V·h, twice if the LM head has its own weights;
    - decoder layer: q, k, v with biases (h + 2k)(h + 1), o h², MLP 3·h·i, norms 2h; one norm h;
    - vision block: qkv and proj 4·v·(v + 1), MLP 2·w·(v + 1) + v·(w + 1), norms 2v; patch
      embedding channels · temporal · patch² · v; merger v + M·(M + 1) + h·(M + 1), M = m²·v.
    """
    h, i, k = model.hidden, model.intermediate, model.kv
    v, w = model.vision_hidden, model.vision_intermediate
    layer = (h + 2 * k) * (h + 1) + h * h + 3 * h * i + 2 * h
    block = 4 * v * (v + 1) + 2 * w * (v + 1) + v * (w + 1) + 2 * v
    merged = model.merge**2 * v
    patches = model.channels * model.temporal_patch * model.patch**2 * v
    return {
        "embeddings": model.vocabulary * h * (1 if model.tied else 2),
        "decoder": model.layers * layer + h,
        "vision": model.vision_layers * block + patches + v + (merged + h) * (merged + 1),
    }


def count_adapters(model: Architecture, rank: int, freeze_vision: bool) -> int:
    """Count LoRA's parameters: rank · (inputs + outputs) of every adapted linear layer; exact.

    Adapters are on the decoder and, unless it is frozen, on the vision tower and its merger. The
    embeddings and the LM head have none.
    """
    h, i, k = model.hidden, model.intermediate, model.kv
    v, w = model.vision_hidden, model.vision_intermediate
    layer = 2 * (h + h) + 2 * (h + k) + 3 * (h + i)
    block = (v + 3 * v) + (v + v) + 3 * (v + w)
    merged = model.merge**2 * v
    vision = 0 if freeze_vision else model.vision_layers * block + 3 * merged + h
    return rank * (model.layers * layer + vision)


def count_trained(model: Architecture, rank: int | None, freeze_vision: bool) -> int:
    """Count trained parameters: the adapters, or all except a frozen vision tower."""
    if rank is not None:
        return count_adapters(model, rank, freeze_vision)
    counts = count_parameters(model)
    return sum(counts.values()) - (counts["vision"] if freeze_vision else 0)
