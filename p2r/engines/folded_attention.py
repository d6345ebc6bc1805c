"""Attention for sampling with grouped queries, without copying keys for the heads that share them.

In models with grouped queries, several heads share their keys. With a mask, SDPA of transformers
copies keys and values for each head, at every token. Here the queries of these heads are folded
into one sequence instead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "sdpa_folded"  # the name of `folded_attention` among the functions of transformers


def fold_attention(model: Any) -> None:
    """Let the decoder of a model that uses SDPA fold its heads while it samples."""
    AttentionInterface.register(ATTENTION, folded_attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    decoder = getattr(model.base_model, "language_model", None)
    for module in decoder.modules() if decoder is not None else ():
        config: Any = getattr(module, "config", None)
        if getattr(config, "_attn_implementation", None) == "sdpa":
            config._attn_implementation = ATTENTION


def folded_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Serves the attention of transformers, as SDPA.

    Queries, keys and values are (B, heads, N, width), with fewer heads of keys than of queries;
    returns (B, N, heads, width).
    """
    if query.size(2) > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    attend = partial(
        scaled_dot_product_attention,
        scale=settings.get("scaling"),
        dropout_p=settings.get("dropout", 0.0),
    )
    return attend_folded(attend, query, key, value, attention_mask), None


def attend_folded(
    attend: Callable[..., torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Return the output of attention, (B, tokens, heads, width).

    The queries of all heads that share keys are folded into one sequence. Otherwise the kernels
    that take a mask would need a copy of the keys for each head.
    """
    shared = query.size(1) // key.size(1)
    folded = query.unflatten(1, (-1, shared)).flatten(2, 3)
    if mask is not None and mask.size(-2) > 1:
        mask = mask.repeat(*[1] * (mask.dim() - 2), shared, 1)
    seen = attend(folded, key, value, attn_mask=mask)
    return seen.unflatten(2, (shared, -1)).flatten(1, 2).transpose(1, 2)
