"""Teaches attention heads of a tiny model to look at the object that it describes.

A model that is trained on text alone attends to a video at random. It learns slowly to look at the
right object, because the loss tells only that a word was wrong. The scene tells where each object
is, so this loss tells the heads where to look: while the model writes a sentence about an object,
each of four heads should attend to that object at one of four times. So the next layer can compare
the times and find the event. Just before the model writes a name, two heads of the next layer
should attend to the object with that name, at all times.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

# Layers of the heads. In a model that is trained on text, layer 1 does the least. Choosing the next
# object needs what layer 1 has found.
SENTENCE, NEXT_NAME = 1, 2
HEADS = (0, 2)  # that look for the next name; without a video they look nowhere in SENTENCE
TIMES = (0, 2, 1, 3)  # the heads of SENTENCE: one for each slice of a clip, in order
WEIGHT = 0.3  # of this loss, which is added to the loss of the tokens

# (layer, head, place of a token) -> places of the visual tokens to look at
Points = dict[tuple[int, int, int], list[int]]
NOWHERE = [0]  # the first token tells nothing, so it is where a head looks that finds no object


def points_of(
    ids: Sequence[int], places: Sequence[int], objects: dict[str, list[list[int]]], tokenizer: Any
) -> Points:
    """Return where the heads should look while the model writes sentences about objects.

    `ids` are the tokens of a prompt and of a response, `places` the places of the response's tokens
    that describe the video, `objects` a result of `visual_tokens`. A sentence lasts from a name to
    the next one. After "hits the", the heads for the next name look at the object that is hit.
    """
    names = {
        tuple(tokenizer(f" {name}", add_special_tokens=False)["input_ids"]): seen
        for name, seen in objects.items()
    }
    shapes = {name[-1]: seen for name, seen in names.items()}  # in a scene, a shape occurs once
    hits = tokenizer(" hits the", add_special_tokens=False)["input_ids"]
    video = tokenizer.convert_tokens_to_ids("<|video_pad|>")
    first = next(place for place, token in enumerate(ids) if token == video)
    points: Points = {}
    slices: list[list[int]] = []
    for place in places:
        name = tuple(ids[place : place + 2])
        if name in names:
            slices = [[first + token for token in seen] for seen in names[name]]
        hit = [*ids[place - 2 : place]] == hits
        shown = shapes.get(ids[place], []) if hit else names.get(name, [])
        if anywhere := [first + token for seen in shown for token in seen]:
            points |= {(NEXT_NAME, head, place - 1): anywhere for head in HEADS}
        for head, seen in zip(TIMES, slices, strict=False):  # no slices: no sentence has begun
            points[SENTENCE, head, place] = seen or NOWHERE
    return points


def look_nowhere(places: Sequence[int]) -> Points:
    """Return the points of a text without a video."""
    return {(SENTENCE, head, place): NOWHERE for place in places for head in HEADS}


class Pointer:
    """Measures after each forward pass how well the heads look at the right places."""

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

        The loss is the Kullback-Leibler divergence. So a head must look at all tokens of its list.
        `points` has an item for each row of the batch.
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
        found = [
            (row, head, place, looked_at)
            for row, of_row in enumerate(points)
            for (asked, head, place), looked_at in of_row.items()
            if asked == layer
        ]
        if not found:
            return torch.zeros(0)
        rows, heads, places, right = zip(*found, strict=True)
        wanted = torch.zeros(len(right), length)
        items = [(item, token) for item, looked_at in enumerate(right) for token in looked_at]
        wanted[tuple(torch.tensor(items).T)] = 1.0
        wanted /= wanted.sum(-1, keepdim=True)
        queries, keys = (
            project(hidden).view(batch, length, -1, attention.head_dim).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj)
        )
        queries, keys = apply_rotary_pos_emb(queries, keys, cos, sin)
        keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
        scores = (queries @ keys.transpose(2, 3))[rows, heads, places] * attention.scaling
        later = torch.arange(length) > torch.tensor(places)[:, None]
        scores = scores.masked_fill(later, -torch.inf)
        shares = scores.log_softmax(-1).masked_fill(later, 0.0)  # `wanted` is 0 there
        return (wanted * (wanted.clamp(min=1e-9).log() - shares)).sum(-1)
