"""Teaches attention heads of a tiny model to look at the object that it describes.

A model that is trained on text alone attends to a video at random. It learns slowly to look at the
right object, because the loss tells only that a word was wrong. The scene tells where each object
is, so this loss tells the heads where to look: while the model writes a sentence about an object,
two heads should attend to all visual tokens of that object. Just before it writes a name, two heads
of the next layer should attend to the object that it will name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

# Layers of the heads. In a model that is trained on text, layer 1 does the least. Choosing the next
# object needs what layer 1 has found.
SENTENCE, NEXT_NAME = 1, 2
HEADS = (0, 2)  # they do not share their keys
WEIGHT = 0.3  # of this loss, beside that of the tokens

# (layer, place of a token) -> places of the visual tokens to look at
Points = dict[tuple[int, int], list[int]]
NOWHERE = [0]  # the first token tells nothing, so it is where a head looks that finds no object


def points_of(
    ids: Sequence[int], places: Sequence[int], objects: dict[str, list[int]], tokenizer: Any
) -> Points:
    """Return where the heads should look while the model writes sentences about objects.

    `ids` are the tokens of a prompt and of a response, `places` the places of the response's tokens
    that describe the video, `objects` a result of `visual_tokens`. A sentence lasts from a name to
    the next one.
    """
    names = {
        tuple(tokenizer(f" {name}", add_special_tokens=False)["input_ids"]): seen
        for name, seen in objects.items()
    }
    video = tokenizer.convert_tokens_to_ids("<|video_pad|>")
    first = next(place for place, token in enumerate(ids) if token == video)
    points: Points = {}
    looked_at: list[int] = []
    for place in places:
        name = tuple(ids[place : place + 2])
        if name in names:
            looked_at = [first + token for token in names[name]]
            if looked_at:
                points[NEXT_NAME, place - 1] = looked_at
        if looked_at:
            points[SENTENCE, place] = looked_at
    return points


def look_nowhere(places: Sequence[int]) -> Points:
    """Return the points of a text without a video."""
    return {(SENTENCE, place): NOWHERE for place in places}


class Pointer:
    """Measures, after each forward pass, how far the heads look at what they should look at."""

    def __init__(self, model: Any) -> None:
        layers = model.model.language_model.layers
        self.attention = {layer: layers[layer].self_attn for layer in (SENTENCE, NEXT_NAME)}
        self.last = 0.0  # the loss of the last pass with points
        self._given: dict[int, tuple[torch.Tensor, ...]] = {}
        for layer, module in self.attention.items():
            module.register_forward_pre_hook(partial(self._keep, layer), with_kwargs=True)

    def _keep(self, layer: int, module: Any, args: Any, given: dict[str, Any]) -> None:
        self._given[layer] = (given["hidden_states"], *given["position_embeddings"])

    def loss(self, points: Sequence[Points]) -> torch.Tensor:
        """Return how far the attention is from equal shares for the right tokens; 0 without points.

        The loss is the Kullback-Leibler divergence, so a head must look at all tokens of an object:
        those after a change of colour too. `points` has an item for each row of the batch.
        """
        losses = [self._losses(layer, points) for layer in self.attention]
        losses = [each for each in losses if len(each)]
        if not losses:
            return torch.zeros(())
        loss = torch.stack([each.mean() for each in losses]).sum()
        self.last = loss.item()
        return loss

    def _losses(self, layer: int, points: Sequence[Points]) -> torch.Tensor:
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb

        hidden, cos, sin = self._given[layer]
        attention, (batch, length) = self.attention[layer], hidden.shape[:2]
        rows, places, right = [], [], []
        for row, found in enumerate(points):
            for (asked, place), looked_at in found.items():
                if asked == layer:
                    rows.append(row)
                    places.append(place)
                    right.append(torch.zeros(length).index_fill_(0, torch.tensor(looked_at), 1.0))
        if not rows:
            return torch.zeros(0)
        queries, keys = (
            project(hidden).view(batch, length, -1, attention.head_dim).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj)
        )
        queries, keys = apply_rotary_pos_emb(queries, keys, cos, sin)
        group = queries.shape[1] // keys.shape[1]
        later = torch.arange(length) > torch.tensor(places)[:, None]
        wanted = torch.stack(right)
        wanted /= wanted.sum(-1, keepdim=True)
        losses = []
        for head in HEADS:
            query = queries[rows, head, places]  # (points, features)
            scores = torch.einsum("pf,plf->pl", query, keys[rows, head // group])
            scores = (scores * attention.scaling).masked_fill(later, -torch.inf)
            shares = scores.log_softmax(-1).masked_fill(later, 0.0)  # `wanted` is 0 there
            losses.append((wanted * (wanted.clamp(min=1e-9).log() - shares)).sum(-1))
        return torch.cat(losses)
