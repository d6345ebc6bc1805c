"""Batches the windows of the vision tower that have the same length into one attention call.

Without flash attention, the tower of transformers calls SDPA once for each window, or for each
frame in its layers with full attention: about 1,800 calls for a video of 16 frames. Here each layer
makes one call for all windows of one length. Most windows have the same length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from p2r.training.shared_prompts import backbone_of

# transformers passes the bounds of all windows only to functions with "flash" in their name.
ATTENTION = "sdpa_called_as_flash"


def batch_windows(model: Any) -> None:
    """Let the vision tower of a model compute equal windows together; outputs stay the same.

    Flash attention already computes all windows in one call, so it is kept.
    """
    AttentionInterface.register(ATTENTION, windowed_attention)
    config = backbone_of(model).visual.config
    if "flash" not in config._attn_implementation:
        config._attn_implementation = ATTENTION


def windowed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    cu_seq_lens_q: torch.Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Serves the vision attention of transformers: attention within each window.

    Queries, keys and values are (1, heads, N, width); `cu_seq_lens_q` are the bounds of the windows
    among the N patches. Returns (1, N, heads, width).
    """
    bounds = cu_seq_lens_q.long()
    lengths = bounds.diff()
    places, found = [], []
    for size in lengths.unique().tolist():
        inside = torch.arange(size, device=bounds.device)
        place = (bounds[:-1][lengths == size, None] + inside).flatten()
        windows = [
            states[0].index_select(1, place).unflatten(1, (-1, size)).transpose(0, 1)
            for states in (query, key, value)
        ]
        seen = scaled_dot_product_attention(*windows, dropout_p=dropout, scale=scaling)
        found.append(seen.transpose(1, 2).flatten(0, 1))
        places.append(place)
    return torch.cat(found).index_select(0, torch.cat(places).argsort())[None], None
