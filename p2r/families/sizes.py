"""Sizes of a model: parameters, adapters and vision tokens. All are exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any


@dataclass(frozen=True)
class Architecture:
    """The sizes of a video model. Each family makes them from its config.

    `parameters` counts the parameters of each part: "embeddings" (twice if the LM head has its own
    weights), "decoder" and "vision" (the tower with its mergers). `adapted` is the sum of inputs
    and outputs of all linear layers that get adapters, of "decoder" and "vision".
    `queries` and `kv` are the total widths of all query heads and of all key heads. `normed` is the
    width of the queries and keys that have a norm. `mergers` counts the mergers of the vision
    tower, and `vision_gated` tells whether its MLP has a gate. `moment_tokens` are the most text
    tokens before the vision tokens of a moment (a temporal patch) of a video.
    """

    parameters: Mapping[str, int]
    adapted: Mapping[str, int]
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    queries: int
    kv: int
    positions: int
    vision_hidden: int
    vision_intermediate: int
    vision_layers: int
    patch: int
    merge: int
    temporal_patch: int
    normed: int = 0
    mergers: int = 1
    vision_gated: bool = True
    moment_tokens: int = 0

    @property
    def factor(self) -> int:
        """The side length, in pixels, of the block behind one vision token."""
        return self.patch * self.merge


def shared_sizes(text: Mapping[str, Any], vision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes that configs of all families name in the same way.

    `text` and `vision` are the parts of a `config.json` about the decoder and the vision tower.
    """
    return {
        "vocabulary": text["vocab_size"],
        "hidden": text["hidden_size"],
        "intermediate": text["intermediate_size"],
        "layers": text["num_hidden_layers"],
        "heads": text["num_attention_heads"],
        "positions": text["max_position_embeddings"],
        "vision_hidden": vision["hidden_size"],
        "vision_intermediate": vision["intermediate_size"],
        "vision_layers": vision["depth"],
        "patch": vision["patch_size"],
        "merge": vision["spatial_merge_size"],
        "temporal_patch": vision["temporal_patch_size"],
    }


def vision_tokens(model: Architecture, frames: int, height: int, width: int) -> int:
    """Return the tokens of a video: ⌈frames / temporal patch⌉ · height · width / (patch · merge)².

    The processors of Qwen give the same count. Height and width are multiples of `model.factor`.
    """
    return ceil(frames / model.temporal_patch) * (height * width // model.factor**2)


def most_vision_tokens(model: Architecture, frames: int, pixels: int) -> int:
    """Return the most tokens that frames of at most `pixels` pixels can have, in any shape."""
    return ceil(frames / model.temporal_patch) * (pixels // model.factor**2)


def most_moment_tokens(model: Architecture, frames: int) -> int:
    """Return the most text tokens that tell the times of the moments of a video."""
    return ceil(frames / model.temporal_patch) * model.moment_tokens


def count_parameters(model: Architecture) -> dict[str, int]:
    """Count parameters by part: "embeddings", "decoder", "vision"; exact."""
    return dict(model.parameters)


def count_adapters(model: Architecture, rank: int, freeze_vision: bool) -> int:
    """Count LoRA's parameters: rank · (inputs + outputs) of every adapted linear layer; exact.

    Adapters are on the decoder and, unless it is frozen, on the vision tower and its mergers. The
    embeddings and the LM head have none.
    """
    return rank * (model.adapted["decoder"] + (0 if freeze_vision else model.adapted["vision"]))


def count_trained(model: Architecture, rank: int | None, freeze_vision: bool) -> int:
    """Count trained parameters: the adapters, or all except a frozen vision tower."""
    if rank is not None:
        return count_adapters(model, rank, freeze_vision)
    counts = count_parameters(model)
    return sum(counts.values()) - (counts["vision"] if freeze_vision else 0)
