"""Every forward pass calls the vision tower once, on every worker.

Workers that share the weights or the gradients of the vision tower (DDP, ZeRO, FSDP) wait for each
other in each of its layers. Their micro-batches differ: one may hold a video and an image (two
calls of the tower in transformers), another only text (no call). Then all workers wait for ever, or
DDP misses a gradient. Here images and videos go through the tower together, in one call. A batch
without media sends one dummy patch through the tower and multiplies the result by 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from p2r.training.shared_prompts import backbone_of


def unify_vision_passes(model: Any) -> None:
    """Let each forward pass of a Qwen2.5-VL call its vision tower exactly once.

    A forward pass that continues a key-value cache sees no media and calls no tower. Apply it
    before `share_prompts`. The outputs are the same up to rounding.
    """
    backbone = backbone_of(model)
    backbone.forward = partial(_forward, backbone, backbone.forward)


def _forward(
    backbone: Any,
    forward: Callable[..., Any],
    input_ids: torch.Tensor | None = None,
    past_key_values: Any = None,
    inputs_embeds: torch.Tensor | None = None,
    pixel_values: torch.Tensor | None = None,
    pixel_values_videos: torch.Tensor | None = None,
    **kwargs: Any,
) -> Any:
    past = past_key_values is not None and past_key_values.get_seq_length() > 0
    if inputs_embeds is None and not past:
        inputs_embeds = _embed(backbone, input_ids, pixel_values, pixel_values_videos, kwargs)
    return forward(
        input_ids=input_ids,
        past_key_values=past_key_values,
        inputs_embeds=inputs_embeds,
        **kwargs,
    )


def _embed(
    backbone: Any,
    input_ids: torch.Tensor,
    images: torch.Tensor | None,
    videos: torch.Tensor | None,
    grids: dict[str, Any],
) -> torch.Tensor:
    """Return the embeddings of tokens and media, (B, L, hidden)."""
    embeds = backbone.get_input_embeddings()(input_ids)
    tower, config = backbone.visual, backbone.config.vision_config
    kinds = [
        (pixels, grids[f"{kind}_grid_thw"], kind)
        for kind, pixels in (("image", images), ("video", videos))
        if pixels is not None
    ]
    side = tower.spatial_merge_size
    if kinds:
        pixels = torch.cat([pixels for pixels, _, _ in kinds])
        grid = torch.cat([grid for _, grid, _ in kinds])
    else:
        width = config.in_channels * config.temporal_patch_size * config.patch_size**2
        pixels = torch.zeros(side**2, width, device=input_ids.device)
        grid = torch.tensor([[1, side, side]], device=input_ids.device)
    features = tower(pixels.type(tower.dtype), grid_thw=grid).pooler_output
    features = features.to(embeds.device, embeds.dtype)
    if not kinds:
        return embeds + 0.0 * features.sum()
    counts = [int(grid.prod(-1).sum()) // side**2 for _, grid, _ in kinds]
    for (_, _, kind), seen in zip(kinds, features.split(counts), strict=True):
        masks = backbone.get_placeholder_mask(input_ids, embeds, **{f"{kind}_features": seen})
        embeds = embeds.masked_scatter(masks[kind == "video"], seen)
    return embeds
