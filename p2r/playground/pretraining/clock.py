"""Teaches the first layer of a tiny model to write the time into visual tokens.

The vision tower sees two frames at a time, so its tokens do not tell the time. The language model
knows it only as a distance between tokens. Here the first layer learns to add the word of the time
("0", "1", "2" or "3" seconds) to each visual token, as the tower adds "red" and "circle". Then a
head of the next layer finds an object at a certain time by two words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from p2r.playground.pretraining.places import SLICES

READER = 1  # the layer that reads the time
WEIGHT = 0.1  # of this loss, which is added to the loss of the tokens
SCALE = 6.0  # of the score of a word that is in a token once


class Clock:
    """Measures, after each forward pass, how well visual tokens tell their time."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.embeddings = model.get_input_embeddings()
        self.words = tokenizer.convert_tokens_to_ids([str(second) for second in range(SLICES)])
        self.video = tokenizer.convert_tokens_to_ids("<|video_pad|>")
        self.last = 0.0  # the loss of the last pass with a video
        layer = model.model.language_model.layers[READER]
        layer.register_forward_pre_hook(self._keep, with_kwargs=True)

    def _keep(self, module: Any, args: Any, given: dict[str, Any]) -> None:
        self._hidden = args[0] if args else given["hidden_states"]

    def loss(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the cross-entropy of the times of all visual tokens; 0 without a video."""
        shown = inputs["input_ids"] == self.video  # (rows, length)
        if not shown.any():
            return torch.zeros(())
        counts = shown.sum(1, keepdim=True)
        times = (shown.cumsum(1) - 1) * SLICES // counts.clamp(min=1)
        words = self.embeddings.weight[self.words].detach()
        words = words / self.embeddings.weight.detach().pow(2).mean() / words.shape[1]
        scores = SCALE * self._hidden[shown] @ words.T
        loss = cross_entropy(scores, times[shown])
        self.last = loss.item()
        return loss
