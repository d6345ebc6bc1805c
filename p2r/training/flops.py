"""Counts the arithmetic of a model and of an RL step: the floor under the time of a step.

All counts are FLOPs of matrix products (a multiplication and an addition are two), as PyTorch's
`FlopCounterMode` counts them. Norms, rotations and softmax are left out: they are below one percent
at the sizes of real models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from p2r.families.sizes import Architecture

Grid = tuple[int, int, int]  # of a medium, in patches: time, height, width


@dataclass(frozen=True)
class StepShape:
    """The sizes of an RL step: `prompts` groups of `group` rollouts of `completion` tokens.

    Every prompt has `prompt` tokens and one medium of `grid`. `reference`: the KL term is on.
    `recompute`: gradient checkpointing is on. `frozen`: the vision tower is not trained, so it runs
    once per prompt.
    """

    prompts: int
    group: int
    prompt: int
    completion: int
    grid: Grid
    reference: bool = True
    recompute: bool = False
    frozen: bool = False


def decoder_flops(model: Architecture, tokens: int, pairs: int) -> int:
    """Return the forward pass of the decoder: 2·t·(2·h·q + 2·h·k + 3·h·i) + 4·q·pairs per layer.

    `pairs` counts the query-key pairs that attention computes. h is the hidden width, q and k the
    widths of all query and of all key heads, i the width of the MLP.
    """
    weights = 2 * model.hidden * (model.queries + model.kv) + 3 * model.hidden * model.intermediate
    return model.layers * (2 * tokens * weights + 4 * model.queries * pairs)


def head_flops(model: Architecture, tokens: int) -> int:
    """Return the LM head on the tokens whose next token is scored: 2·t·h·V."""
    return 2 * tokens * model.hidden * model.vocabulary


def tower_flops(model: Architecture, vision: Mapping[str, Any], grids: Sequence[Grid]) -> int:
    """Return the forward pass of the vision tower; `vision` is the `vision_config` of the model.

    With n patches, widths v and w, merge m, M = m²·v: patch embedding 2·n·3·T·p²·v; block
    2·n·(4·v² + 3·v·w) (without a gate 2·v·w) + 4·v·pairs; merger 2·n/m²·(M² + M·h).
    """
    patches = sum(time * height * width for time, height, width in grids)
    wide, merged = model.vision_hidden, model.merge**2 * model.vision_hidden
    channels = vision.get("in_channels", vision.get("in_chans", 3))
    embed = channels * model.temporal_patch * model.patch**2 * wide
    gated = 3 if model.vision_gated else 2
    block = 4 * wide**2 + gated * wide * model.vision_intermediate
    merger = (merged**2 + merged * model.hidden) * model.mergers // model.merge**2
    linear = 2 * patches * (embed + model.vision_layers * block + merger)
    return linear + 4 * wide * tower_pairs(vision, grids)


def tower_pairs(vision: Mapping[str, Any], grids: Sequence[Grid]) -> int:
    """Return the query-key pairs of the tower over all layers: within a frame, or a window."""
    layers, merge = vision["depth"], vision["spatial_merge_size"]
    whole = sum(time * (height * width) ** 2 for time, height, width in grids)
    if "window_size" not in vision:
        return layers * whole
    full = len(vision["fullatt_block_indexes"])
    side = vision["window_size"] // vision["patch_size"] // merge * merge  # in patches

    def squares(length: int) -> int:
        return length // side * side**2 + (length % side) ** 2

    windows = sum(time * squares(height) * squares(width) for time, height, width in grids)
    return full * whole + (layers - full) * windows


def step_flops(model: Architecture, vision: Mapping[str, Any], shape: StepShape) -> dict[str, int]:
    """Return the FLOPs of an RL step by part: "generate", "log_probs", "backward".

    The prompt of a group is computed once in each part. A backward pass is twice its forward pass.
    """
    p, c, rollouts = shape.prompt, shape.completion, shape.group
    said = rollouts * c
    seen = tower_flops(model, vision, [shape.grid])
    sampled = decoder_flops(model, p + said, p**2 + said * p + rollouts * c**2 // 2)
    sampled += head_flops(model, said)
    prefix = p - 1  # a packed row repeats the last token of the prompt for every completion
    read = decoder_flops(model, prefix + said, prefix**2 + said * (prefix + c))
    read += head_flops(model, said)
    passes = 4 if shape.recompute else 3
    parts = {
        "generate": sampled + seen,
        "log_probs": read + (0 if shape.frozen else seen) if shape.reference else 0,
        "backward": passes * (read + (0 if shape.frozen else seen)),
    }
    return {part: shape.prompts * count for part, count in parts.items()}
