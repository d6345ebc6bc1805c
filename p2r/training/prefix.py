"""One prompt forward per group: rollouts of one question share its video and its prompt.

A group's G rollouts have the same prompt, and an ordinary forward computes it, vision tower
included, G times. Here each distinct prompt is computed once, its keys and values are handed to all
its rollouts, and only the completions are computed per rollout. The same sums in another order:
log-probs and gradients are equal up to rounding. The prompt's states are kept for the gradient, so
this is not for gradient checkpointing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from transformers import DynamicCache

from p2r import data


@dataclass(frozen=True)
class Prompts:
    """Which prompt each row of a batch has: `first` (U,) is the first row of each distinct prompt,
    `of_row` (B,) the prompt of each row; `length` is the padded prompt length, `vision` the flat
    inputs of the U prompts.
    """

    first: torch.Tensor
    of_row: torch.Tensor
    length: int
    vision: dict[str, torch.Tensor]

    @classmethod
    def of(cls, rows: Sequence[data.Batch], length: int, device: torch.device) -> Prompts:
        """Rows share a prompt where their vision inputs are one and the same object."""
        place: dict[int, int] = {}
        first, of_row = [], []
        for index, row in enumerate(rows):
            if id(row) not in place:
                place[id(row)] = len(first)
                first.append(index)
            of_row.append(place[id(row)])
        flat = {key: [rows[i][key] for i in first] for key in data.VISION_KEYS}
        return cls(
            torch.tensor(first, device=device),
            torch.tensor(of_row, device=device),
            length,
            data.to_model_inputs(flat, device),
        )


def share_prompts(model: Any) -> None:
    """Teach a Qwen2.5-VL to share prompts inside `sharing`; outside it nothing changes."""
    backbone = _backbone_of(model)
    backbone.prompts = None
    backbone.forward = partial(_forward, backbone, backbone.forward)


@contextmanager
def sharing(model: Any, prompts: Prompts) -> Iterator[None]:
    """The next forward passes of `model` are on rows with these prompts."""
    backbone = _backbone_of(model)
    backbone.prompts = prompts
    try:
        yield
    finally:
        backbone.prompts = None


def _backbone_of(model: Any) -> Any:
    """The model under the LM head, and under adapters, which are inside its layers."""
    return (model.get_base_model() if isinstance(model, PeftModel) else model).base_model


def _forward(
    backbone: Any,
    forward: Callable[..., Any],
    input_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    past_key_values: Any = None,
    mm_token_type_ids: torch.Tensor | None = None,
    **kwargs: Any,
) -> Any:
    """The backbone's forward; the prompts of a batch without a past are computed once each."""
    prompts: Prompts | None = backbone.prompts
    past = past_key_values is not None and past_key_values.get_seq_length() > 0
    if prompts is None or past:
        return forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            mm_token_type_ids=mm_token_type_ids,
            **kwargs,
        )
    for key in (*data.VISION_KEYS, "use_cache"):
        kwargs.pop(key, None)
    first, of_row, length = prompts.first, prompts.of_row, prompts.length
    cache = DynamicCache(config=backbone.config) if past_key_values is None else past_key_values
    asked = {
        "input_ids": input_ids[first, :length],
        "attention_mask": attention_mask[first, :length],
        "mm_token_type_ids": mm_token_type_ids[first, :length],
    }
    if position_ids is not None:
        placed = position_ids[:, first, :length]
    elif prompts.vision:
        placed, _ = backbone.get_rope_index(**asked, **prompts.vision)
    else:
        placed = None
    output = forward(
        **asked,
        position_ids=placed,
        past_key_values=cache,
        use_cache=True,
        **prompts.vision,
        **kwargs,
    )
    cache.batch_select_indices(of_row)
    states = output.last_hidden_state[of_row]
    rest = input_ids.size(1) - length
    if rest:
        # A response goes on from its prompt's last token, as in an ordinary forward. (The model's
        # `rope_deltas` goes on from the largest position, a later one after a long video.)
        end = torch.full_like(first, length) if placed is None else placed[-1, :, -1] + 1
        places = end[of_row, None] + torch.arange(rest, device=end.device)
        completed = forward(
            input_ids=input_ids[:, length:],
            attention_mask=attention_mask,
            position_ids=places.expand(3, -1, -1),
            past_key_values=cache,
            use_cache=True,
            **kwargs,
        )
        states = torch.cat([states, completed.last_hidden_state], 1)
    output.last_hidden_state = states
    return output
