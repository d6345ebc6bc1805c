"""Shared prompts: compute the prompt of a group once, not once per rollout.

The G rollouts of a question have the same prompt and the same video. An ordinary forward pass
computes them G times, vision tower included. Here each distinct prompt is computed once. All its
rollouts use its keys and values, and only the completions are computed per rollout. Log-probs and
gradients are equal up to rounding. The states of the prompt are kept for the backward pass, so this
does not work with gradient checkpointing.
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
    """The prompt of each row of a batch, with U distinct prompts in B rows.

    `first` (U,) is the first row of each distinct prompt. `of_row` (B,) is the index of each row's
    prompt. `length` is the padded prompt length. `vision` holds the flat vision inputs of the U
    prompts.
    """

    first: torch.Tensor
    of_row: torch.Tensor
    length: int
    vision: dict[str, torch.Tensor]

    @classmethod
    def of(cls, rows: Sequence[data.Batch], length: int, device: torch.device) -> Prompts:
        """Find the distinct prompts: two rows share a prompt if they share their vision object."""
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
    """Let a Qwen2.5-VL share prompts inside `sharing`; outside of it the model is unchanged."""
    backbone = backbone_of(model)
    backbone.prompts = None
    backbone.forward = partial(_forward, backbone, backbone.forward)


@contextmanager
def sharing(model: Any, prompts: Prompts) -> Iterator[None]:
    """Tell `model` the prompts of the rows that it gets inside this block."""
    backbone = backbone_of(model)
    backbone.prompts = prompts
    try:
        yield
    finally:
        backbone.prompts = None


def backbone_of(model: Any) -> Any:
    """Return the model without its LM head and without the wrapper of adapters."""
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
    """Run the backbone; compute each distinct prompt once if the batch has no past."""
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
        # The positions of a response follow its prompt's last token, as in an ordinary forward
        # pass. (The model's `rope_deltas` follow the largest position. After a long video that is
        # later.)
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
