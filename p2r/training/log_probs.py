"""Computes the log-prob and the entropy of every response token, from packed rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator

from p2r import data
from p2r.training.packing import pack
from p2r.training.shared_prompts import backbone_of


@dataclass(frozen=True)
class Rows:
    """B rows of left-padded prompts and right-padded completions of `width` tokens.

    The tensors are (B, P + `width`), with P prompt tokens. `vision` holds the vision inputs of each
    row. Rows with the same vision object have the same prompt.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_types: torch.Tensor
    width: int
    vision: Sequence[data.Batch]


def read_rows(
    model: Any,
    rows: Rows,
    accelerator: Accelerator,
    size: int | None = None,
    entropy: bool = False,
    states: list[torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return log-prob and entropy of each token, (B, T), from passes of `size` rows (default: all).

    The entropies are None without `entropy`. The list `states` gets the last hidden state before
    each token, (B, T, hidden), without gradient.
    """
    count = len(rows.input_ids)
    if count != len(rows.vision):
        raise ValueError(f"{count} rows but vision inputs of {len(rows.vision)}")
    whole = accelerator.unwrap_model(model)
    log_probs, entropies = [], []
    for start in range(0, count, size or count):
        some = slice(start, start + (size or count))
        packed = pack(
            whole,
            rows.input_ids[some],
            rows.attention_mask[some],
            rows.token_types[some],
            rows.width,
            rows.vision[some],
        )
        watch: AbstractContextManager[list[torch.Tensor]] = (
            nullcontext([]) if states is None else _collected_states(whole)
        )
        with accelerator.autocast(), watch as seen:
            output = model(**packed.inputs, fused_lm_head=True)
        assert output.log_probs.dtype == torch.float32, "rounded log-probs make the KL term wrong"
        if states is not None:
            states.append(packed.unpack(seen[0]))
        log_probs.append(packed.unpack(output.log_probs))
        if entropy:
            entropies.append(packed.unpack(output.entropy))
    return torch.cat(log_probs), torch.cat(entropies) if entropy else None


def join(batch: Mapping[str, Any]) -> list[torch.Tensor]:
    """Return the token ids and the attention mask of prompts and completions, (B, P + T) each."""
    return [
        torch.cat([batch[f"prompt_{name}"], batch[f"completion_{name}"]], 1)
        for name in ("ids", "mask")
    ]


@contextmanager
def _collected_states(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect the last hidden states of each forward pass in this block, without gradient."""
    states: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        states.append(output.last_hidden_state.detach())

    handle = backbone_of(model).register_forward_hook(keep)
    try:
        yield states
    finally:
        handle.remove()
