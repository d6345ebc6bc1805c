"""Qwen3-VL: each moment of a video follows its time as text; deepstack feeds three decoder layers.

A moment is a temporal patch: two frames. The processor writes `<1.5 seconds>` and the markers of
vision before the tokens of each moment, so positions need no times. The vision tower also returns
features of some of its blocks (deepstack), which the model adds to the states of its first decoder
layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2r.families.base import Family
from p2r.families.sizes import Architecture, shared_sizes

MOMENT_TOKENS = 10  # "<999.9 seconds>" and two markers: Qwen has one token for every digit

_SMALL_VISION = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [5, 11, 17],
}
_LARGE_VISION = {
    **_SMALL_VISION,
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "deepstack_visual_indexes": [8, 16, 24],
}


def _config(
    hidden: int, intermediate: int, layers: int, heads: int, tied: bool, vision: dict[str, Any]
) -> dict[str, Any]:
    return {
        "model_type": "qwen3_vl",
        "text_config": {
            "vocab_size": 151936,
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 262144,
        },
        "tie_word_embeddings": tied,
        "vision_config": {**vision, "out_hidden_size": hidden},
    }


# The keys that sizes depend on, from the config.json of the models at huggingface.co/Qwen.
PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-VL-2B-Instruct": _config(2048, 6144, 28, 16, True, _SMALL_VISION),
    "Qwen/Qwen3-VL-4B-Instruct": _config(2560, 9728, 36, 32, True, _SMALL_VISION),
    "Qwen/Qwen3-VL-8B-Instruct": _config(4096, 12288, 36, 32, False, _LARGE_VISION),
    "Qwen/Qwen3-VL-32B-Instruct": _config(5120, 25600, 64, 64, False, _LARGE_VISION),
}


def read_sizes(config: Mapping[str, Any]) -> Architecture:
    """Read the sizes from a `config.json`.

    With hidden size h, query width q, key width k, head width d, MLP width i, vocabulary V, vision
    sizes v and w, merge m, and s deepstack mergers:
    - embeddings: V·h, twice if the LM head has its own weights;
    - decoder layer: q, k, v and o without biases 2·h·(q + k), their norms 2d, MLP 3·h·i, norms 2h;
      one norm h;
    - vision block: qkv and proj 4·v·(v + 1), MLP w·(v + 1) + v·(w + 1), norms with biases 4v; patch
      embedding v · (channels · temporal · patch² + 1) and positions; mergers: (s + 1) linear layers
      M·(M + 1) + h·(M + 1) with M = m²·v, norms 2v of one and 2M of the others.
    """
    text, vision = config["text_config"], config["vision_config"]
    h, i = text["hidden_size"], text["intermediate_size"]
    v, w = vision["hidden_size"], vision["intermediate_size"]
    heads, layers, blocks = text["num_attention_heads"], text["num_hidden_layers"], vision["depth"]
    d = text.get("head_dim") or h // heads
    q, k = heads * d, text["num_key_value_heads"] * d
    patch, temporal = vision["patch_size"], vision["temporal_patch_size"]
    merged = vision["spatial_merge_size"] ** 2 * v
    deepstack = len(vision["deepstack_visual_indexes"])
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))
    layer = 2 * h * (q + k) + 2 * d + 3 * h * i + 2 * h
    block = 4 * v * (v + 1) + w * (v + 1) + v * (w + 1) + 4 * v
    patches = v * (vision.get("in_channels", 3) * temporal * patch**2 + 1)
    mergers = (deepstack + 1) * (merged + h) * (merged + 1) + 2 * v + deepstack * 2 * merged
    return Architecture(
        parameters={
            "embeddings": text["vocab_size"] * h * (1 if tied else 2),
            "decoder": layers * layer + h,
            "vision": blocks * block + patches + vision["num_position_embeddings"] * v + mergers,
        },
        adapted={
            "decoder": layers * (2 * (h + q) + 2 * (h + k) + 3 * (h + i)),
            "vision": blocks * (4 * v + 2 * v + 2 * (v + w)) + (deepstack + 1) * (3 * merged + h),
        },
        **shared_sizes(text, vision),
        queries=q,
        kv=k,
        normed=q + k,
        mergers=deepstack + 1,
        vision_gated=False,
        moment_tokens=MOMENT_TOKENS,
    )


FAMILY = Family(
    name="Qwen3-VL",
    model_type="qwen3_vl",
    processor="Qwen3VLProcessor",
    sizes=read_sizes,
    published=PUBLISHED,
    # The patch embedding is a convolution and gets no adapter.
    decoder_layers=r"language_model\.layers\.\d+\.\w+\.(q|k|v|o|gate|up|down)_proj",
    vision_layers=(
        r"visual\.(blocks\.\d+\.\w+\.(qkv|proj|linear_fc[12])"
        r"|(merger|deepstack_merger_list\.\d+)\.linear_fc[12])"
    ),
    limits_whole_video=True,
)
