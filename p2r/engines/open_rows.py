"""Removes complete rollouts from the batch while transformers samples the others.

`generate` of transformers computes all rows of a batch until the longest one is complete. Here,
complete rows leave the forward pass and the cache within eight tokens. Their last states are 0, and
`generate` ignores the tokens that it samples from them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch


class OpenRows:
    """The open rows of a batch of `count` rows.

    `ends` are the token ids at which `generate` completes a row; the padding that follows is not
    one of them. `rows` (n,) are the rows in the cache.
    """

    EVERY = 8  # tokens between two looks for complete rows, because removing rows copies the cache

    def __init__(self, count: int, ends: Collection[int], device: torch.device) -> None:
        self.ends = torch.tensor(sorted(ends), dtype=torch.long, device=device)
        self.done = torch.zeros(count, dtype=torch.bool, device=device)
        self.rows = torch.arange(count, device=device)
        self.tokens = 0

    def read(self, forward: Callable[..., Any], inputs: dict[str, Any]) -> Any:
        """Run a forward pass over the newest tokens, (B, 1); return an output with all B rows."""
        ids = inputs["input_ids"]
        self.done |= torch.isin(ids[:, 0], self.ends)
        self.tokens += 1
        if self.tokens % self.EVERY == 0:
            self._drop(inputs["past_key_values"])
        if len(self.rows) == len(ids):
            return forward(**inputs)
        output = forward(**take(inputs, self.rows))
        found = output.last_hidden_state
        states = found.new_zeros(len(ids), *found.shape[1:])
        states[self.rows] = found
        output.last_hidden_state = states
        return output

    def _drop(self, cache: Any) -> None:
        """Remove complete rows from the cache.

        One row stays even if it is complete: workers with divided weights compute together until
        the last of them is done.
        """
        still = (~self.done[self.rows]).nonzero()[:, 0]
        if not len(still):
            still = still.new_zeros(1)
        if len(still) < len(self.rows):
            cache.batch_select_indices(still)
            self.rows = self.rows[still]


def take(inputs: dict[str, Any], rows: torch.Tensor) -> dict[str, Any]:
    """Return the inputs of a model for some rows. Positions are (B, N) or (axes, B, N)."""
    taken = dict(inputs)
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        if taken.get(name) is not None:
            taken[name] = taken[name][rows]
    if taken.get("position_ids") is not None:
        taken["position_ids"] = taken["position_ids"][..., rows, :]
    return taken


@contextmanager
def dropping(model: Any, count: int, ends: Collection[int]) -> Iterator[None]:
    """Let `model.generate` compute only open rows of a batch of `count` rows inside this block.

    One thread at a time may use a model inside this block.
    """
    backbone = model.base_model
    if count == 1 or backbone is model:  # nothing to drop, or a model without a separate LM head
        yield
        return
    forward = backbone.forward
    backbone.forward = partial(_forward, OpenRows(count, ends, model.device), forward)
    try:
        yield
    finally:
        backbone.forward = forward


def _forward(
    rows: OpenRows, forward: Callable[..., Any], past_key_values: Any = None, **inputs: Any
) -> Any:
    inputs["past_key_values"] = past_key_values
    if past_key_values is None or not past_key_values.get_seq_length():
        return forward(**inputs)
    return rows.read(forward, inputs)
