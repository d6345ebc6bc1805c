"""Shared prompts: sampling computes the prompt of a group once, not once per rollout.

The G rollouts of a question have the same prompt and the same video. While sampling, each distinct
prompt is computed once, vision tower included, and all its rollouts start from copies of its keys
and values. For log-probs, `p2r.training.packing` shares the prompts in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import PeftModel

from p2r import data


@dataclass(frozen=True)
class Prompts:
    """The prompt of each row of a batch, with U distinct prompts in B rows.

    `first` (U,) is the first row of each distinct prompt. `of_row` (B,) is the index of each row's
    prompt. `vision` holds the flat vision inputs of the U prompts.
    """

    first: torch.Tensor
    of_row: torch.Tensor
    vision: dict[str, torch.Tensor]

    @classmethod
    def of(cls, rows: Sequence[data.Batch], device: torch.device) -> Prompts:
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
            data.to_model_inputs(flat, device),
        )


def backbone_of(model: Any) -> Any:
    """Return the model without its LM head and without the wrapper of adapters."""
    return (model.get_base_model() if isinstance(model, PeftModel) else model).base_model


def place_prompts(
    backbone: Any,
    ids: torch.Tensor,
    mask: torch.Tensor,
    types: torch.Tensor,
    vision: dict[str, torch.Tensor],
) -> torch.Tensor:
    """Return the positions of the tokens of U prompts as the model sets them, (3, U, P)."""
    positions, _ = backbone.get_rope_index(
        ids, mm_token_type_ids=types, attention_mask=mask, **vision
    )
    return positions


# ----------------------------------------------------------------------------------------- sampling


def share_prompts(model: Any) -> None:
    """Let a model share prompts inside `sharing`; outside of it the model is unchanged."""
    backbone = backbone_of(model)
    backbone.prompts = backbone.watch = None
    backbone.forward = partial(_forward, backbone, backbone.forward)


@contextmanager
def sharing(
    model: Any, prompts: Prompts, watch: Callable[[torch.Tensor], None] | None = None
) -> Iterator[None]:
    """Tell `model` the prompts of the rows that it samples from inside this block.

    `watch` gets the tokens of each step of the sampling, (B, 1), except those of the last step.
    """
    backbone = backbone_of(model)
    backbone.prompts, backbone.watch = prompts, watch
    try:
        yield
    finally:
        backbone.prompts = backbone.watch = None


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
    """Run the backbone. If the cache is empty, compute each distinct prompt once.

    The output then has the last state of each row alone, (B, 1, hidden), which predicts its first
    token.
    """
    prompts: Prompts | None = backbone.prompts
    if prompts is None or past_key_values is None or past_key_values.get_seq_length():
        if backbone.watch is not None and input_ids is not None:
            backbone.watch(input_ids)
        return forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            mm_token_type_ids=mm_token_type_ids,
            **kwargs,
        )
    for key in data.VISION_KEYS:
        kwargs.pop(key, None)
    first = prompts.first
    output = forward(
        input_ids=input_ids[first],
        attention_mask=attention_mask[first],
        position_ids=position_ids[:, first],
        past_key_values=past_key_values,
        mm_token_type_ids=mm_token_type_ids[first],
        **prompts.vision,
        **kwargs,
    )
    past_key_values.batch_select_indices(prompts.of_row)
    output.last_hidden_state = output.last_hidden_state[prompts.of_row, -1:]
    return output
