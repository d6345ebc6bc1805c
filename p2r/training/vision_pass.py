"""Every forward pass calls the vision tower once, on every worker.

Workers that share the weights or the gradients of the vision tower (DDP, ZeRO, FSDP) wait for each
other in each of its layers. Their micro-batches differ: one may hold a video and an image (two
calls of the tower in transformers), another only text (no call). Then the workers deadlock, or
DDP misses a gradient. Here images and videos go through the tower together, in one call. A batch
without media sends one dummy patch through the tower and multiplies the result by 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from p2r.training.shared_prompts import backbone_of


def unify_vision_passes(model: Any) -> None:
    """Let each forward pass of a model call its vision tower exactly once.

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
    pixel_values: torch.Tensor | None = None,
    pixel_values_videos: torch.Tensor | None = None,
    **kwargs: Any,
) -> Any:
    compute = partial(forward, input_ids=input_ids, past_key_values=past_key_values, **kwargs)
    if input_ids is None or (past_key_values is not None and past_key_values.get_seq_length()):
        return compute()
    pixels = {"image": pixel_values, "video": pixel_values_videos}
    given = {kind: values for kind, values in pixels.items() if values is not None}
    with _one_call(backbone, given, kwargs):
        return compute(pixel_values=pixel_values, pixel_values_videos=pixel_values_videos)


@contextmanager
def _one_call(
    backbone: Any, pixels: dict[str, torch.Tensor], grids: dict[str, Any]
) -> Iterator[None]:
    """Let the forward pass of the model call the tower once, whichever media it has.

    The tower always follows the embedding of the tokens: workers that share weights gather them in
    one order.
    """
    if len(pixels) == 1:
        yield
    elif pixels:
        compute = backbone.get_image_features
        parts: dict[str, Any] = {}

        def features(kind: str, *_: Any, **__: Any) -> Any:
            if not parts:
                grid = [grids[f"{kind}_grid_thw"] for kind in pixels]
                seen = compute(torch.cat(list(pixels.values())), torch.cat(grid))
                parts.update(zip(pixels, _split(seen, [*map(len, grid)]), strict=True))
            return parts[kind]

        try:
            for kind in pixels:
                setattr(backbone, f"get_{kind}_features", partial(features, kind))
            yield
        finally:
            del backbone.get_image_features, backbone.get_video_features
    else:

        def add_unseen(module: Any, inputs: Any, embeds: torch.Tensor) -> torch.Tensor:
            unseen = sum(features.sum() for features in _dummy_features(backbone))
            return embeds + 0.0 * unseen.to(embeds.dtype)

        handle = backbone.get_input_embeddings().register_forward_hook(add_unseen)
        try:
            yield
        finally:
            handle.remove()


def _split(seen: Any, counts: list[int]) -> list[Any]:
    """Divide the output of the tower into those of the first and of the other media."""
    first = counts[0]
    media = (seen.pooler_output[:first], seen.pooler_output[first:])
    deepstack = getattr(seen, "deepstack_features", None)
    if deepstack is None:
        return [replace(seen, pooler_output=part) for part in media]
    tokens = [sum(map(len, part)) for part in media]
    layers = zip(*(features.split(tokens) for features in deepstack), strict=True)
    return [
        replace(seen, pooler_output=part, deepstack_features=list(features))
        for part, features in zip(media, layers, strict=True)
    ]


def _dummy_features(backbone: Any) -> list[torch.Tensor]:
    """Return everything that the tower makes of one block of black patches."""
    config = backbone.config.vision_config
    side = config.spatial_merge_size
    width = config.in_channels * config.temporal_patch_size * config.patch_size**2
    device = backbone.get_input_embeddings().weight.device
    seen = backbone.get_image_features(
        torch.zeros(side**2, width, device=device), torch.tensor([[1, side, side]], device=device)
    )
    return [*seen.pooler_output, *(getattr(seen, "deepstack_features", None) or ())]
