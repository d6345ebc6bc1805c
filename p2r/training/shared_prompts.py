"""Lets sampling compute the prompt of a group once, and skip completed rollouts.

The G rollouts of a question have the same prompt and the same video. While sampling, each distinct
prompt is computed once, vision tower included, and all its rollouts start from copies of its keys
and values. For log-probs, `p2r.training.packing` shares the prompts in another way.
Complete rollouts leave the forward pass (`p2r.engines.open_rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import PeftModel

from p2r import data
from p2r.engines.open_rows import OpenRows, take


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
        first: list[int] = []
        of_row: list[int] = []
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


class SampledRows:
    """What the backbone must know about the B rows that are sampled.

    `ends` are the token ids that complete a row. `watch` gets the tokens of each step, (B, 1),
    except those of the last step.
    """

    def __init__(
        self,
        prompts: Prompts,
        ends: Collection[int],
        watch: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        self.prompts, self.watch = prompts, watch
        self.open = OpenRows(len(prompts.of_row), ends, prompts.of_row.device)


def share_prompts(model: Any) -> None:
    """Let a model share prompts inside `sharing`; outside of it the model is unchanged."""
    backbone = backbone_of(model)
    backbone.sampled = None
    backbone.forward = partial(_forward, backbone, backbone.forward)


@contextmanager
def sharing(model: Any, rows: SampledRows) -> Iterator[None]:
    """Tell `model` about the rows that it samples inside this block."""
    backbone = backbone_of(model)
    backbone.sampled = rows
    try:
        yield
    finally:
        backbone.sampled = None


def _forward(
    backbone: Any, forward: Callable[..., Any], past_key_values: Any = None, **inputs: Any
) -> Any:
    """Run the backbone; while sampling, only the rows that must be computed."""
    inputs["past_key_values"] = past_key_values
    sampled: SampledRows | None = backbone.sampled
    if sampled is None or past_key_values is None:
        return forward(**inputs)
    if not past_key_values.get_seq_length():
        return _read_prompts(sampled.prompts, forward, inputs)
    if sampled.watch is not None:
        sampled.watch(inputs["input_ids"])
    return sampled.open.read(forward, inputs)


def _read_prompts(prompts: Prompts, forward: Callable[..., Any], inputs: dict[str, Any]) -> Any:
    """Compute each distinct prompt once and copy its keys and values to its rows.

    The output has the last state of each row alone, (B, 1, hidden), which predicts its first token.
    """
    for key in data.VISION_KEYS:
        inputs.pop(key, None)
    output = forward(**take(inputs, prompts.first), **prompts.vision)
    inputs["past_key_values"].batch_select_indices(prompts.of_row)
    output.last_hidden_state = output.last_hidden_state[prompts.of_row, -1:]
    return output
