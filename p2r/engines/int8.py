"""The transformers engine with weights rounded to 8 bits, as on a small device.

The weights of every linear layer are rounded to 255 levels per output channel. The computation
still uses the number format of the recipe. So the answers equal the answers of weight-only int8,
but time and memory do not.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from p2r.data import choose_attention
from p2r.engines.transformers import TransformersEngine
from p2r.runs.recipe import Recipe

LEVELS = 127  # on each side of 0


def make_engine(recipe: Recipe, model: str, *, style: str, batch_size: int) -> Int8Engine:
    """Make the engine for `p2r.engines.load_engine`."""
    how = {"style": style, "attention": choose_attention(recipe.models)}
    return Int8Engine(model, dtype=recipe.models.dtype, batch_size=batch_size, **how)


class Int8Engine(TransformersEngine):
    """Answers with rounded weights."""

    def __init__(self, model: str, **how: Any) -> None:
        super().__init__(model, **how)
        self.identity = {**self.identity, "engine": "int8"}

    @cached_property
    def model(self) -> Any:
        """The model with rounded weights. It is loaded at first use."""
        return round_weights(TransformersEngine.model.func(self))  # type: ignore[attr-defined]


@torch.no_grad()
def round_weights(model: Any) -> Any:
    """Round the weights of all linear layers in place, except the output layer; return the model.

    The output layer shares its weights with the embeddings in small models.
    """
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear) and layer is not model.get_output_embeddings():
            step = layer.weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / LEVELS
            layer.weight.copy_((layer.weight / step).round() * step)
    return model
