"""Qwen2.5-VL: the prompt does not tell the times of frames; positions depend on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2r.families.base import Family
from p2r.families.sizes import Architecture, shared_sizes

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
def _config(
    hidden: int,
    intermediate: int,
    layers: int,
    heads: tuple[int, int],
    vocabulary: int = 152064,
    seen: int = 3420,
) -> dict[str, Any]:
    """Return a config; `heads` are those of queries and keys, `seen` is the tower's MLP width."""
    return {
        "model_type": "qwen2_5_vl",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "max_position_embeddings": 128000,
        "tie_word_embeddings": hidden == 2048,
        "vision_config": {**_VISION, "intermediate_size": seen, "out_hidden_size": hidden},
    }


PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": _config(2048, 11008, 36, (16, 2), 151936),
    "Qwen/Qwen2.5-VL-7B-Instruct": _config(3584, 18944, 28, (28, 4)),
    "Qwen/Qwen2.5-VL-32B-Instruct": _config(5120, 27648, 64, (40, 8), seen=3456),
    "Qwen/Qwen2.5-VL-72B-Instruct": _config(8192, 29568, 80, (64, 8), seen=3456),
}


def read_sizes(config: Mapping[str, Any]) -> Architecture:
    """Read the sizes from a `config.json`; `text_config` may hold those of the decoder.

    With hidden size h, key width k, MLP width i, vocabulary V, vision sizes v and w, merge m:
    - embeddings: V·h, twice if the LM head has its own weights;
    - decoder layer: q, k, v with biases (h + 2k)(h + 1), o h², MLP 3·h·i, norms 2h; one norm h;
    - vision block: qkv and proj 4·v·(v + 1), MLP 2·w·(v + 1) + v·(w + 1), norms 2v; patch
      embedding channels · temporal · patch² · v; merger v + M·(M + 1) + h·(M + 1), M = m²·v.
    """
    text, vision = config.get("text_config", config), config["vision_config"]
    h, i = text["hidden_size"], text["intermediate_size"]
    v, w = vision["hidden_size"], vision["intermediate_size"]
    heads, layers, blocks = text["num_attention_heads"], text["num_hidden_layers"], vision["depth"]
    k = h // heads * text["num_key_value_heads"]
    patch, temporal = vision["patch_size"], vision["temporal_patch_size"]
    channels = vision.get("in_channels", vision.get("in_chans", 3))
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    merged = vision["spatial_merge_size"] ** 2 * v
    layer = (h + 2 * k) * (h + 1) + h * h + 3 * h * i + 2 * h
    block = 4 * v * (v + 1) + 2 * w * (v + 1) + v * (w + 1) + 2 * v
    patches = channels * temporal * patch**2 * v
    return Architecture(
        parameters={
            "embeddings": text["vocab_size"] * h * (1 if tied else 2),
            "decoder": layers * layer + h,
            "vision": blocks * block + patches + v + (merged + h) * (merged + 1),
        },
        adapted={
            "decoder": layers * (2 * (h + h) + 2 * (h + k) + 3 * (h + i)),
            "vision": blocks * (4 * v + 2 * v + 3 * (v + w)) + 3 * merged + h,
        },
        **shared_sizes(text, vision),
        queries=h,
        kv=k,
    )


FAMILY = Family(
    name="Qwen2.5-VL",
    model_type="qwen2_5_vl",
    processor="Qwen2_5_VLProcessor",
    sizes=read_sizes,
    published=PUBLISHED,
    # The patch embedding is a convolution and gets no adapter.
    decoder_layers=r"language_model\.layers\.\d+\.\w+\.(q|k|v|o|gate|up|down)_proj",
    vision_layers=(
        r"visual\.(blocks\.\d+\.\w+\.(qkv|proj|gate_proj|up_proj|down_proj)|merger\.mlp\.[02])"
    ),
    video_fields=("second_per_grid_ts",),
)
