"""First weights from which copying is learned: calm layers and heads that look one token back.

A model copies with two attention heads. The first looks at the token before; the second finds where
the same token stood earlier and reads what followed. Tiny models rarely find the first head by
themselves: RoPE makes such a head only from large query and key biases, which AdamW moves slowly.
So the first head is set by hand, and the rest is learned.
"""

from __future__ import annotations

import random
from typing import Any

import torch

CALM = 0.1  # the layers that write into the residual stream start at this share of their weights
STRENGTH = 6.0  # of the query and key biases
KEPT = 0.1  # share of the query and key weights that stays in the heads that look back
LOUD = 5.0  # the output of the heads that look back is this many times larger


@torch.no_grad()
def calm_writers(model: Any, share: float = CALM) -> None:
    """Scale down the weights of the language model that write into the residual stream.

    With large weights the stream grows from layer to layer, and the token's identity drowns.
    """
    for layer in model.model.language_model.layers:
        layer.self_attn.o_proj.weight.mul_(share)
        layer.mlp.down_proj.weight.mul_(share)


@torch.no_grad()
def look_back(model: Any, offsets: tuple[int, ...] = (1, 2)) -> None:
    """Make the query heads of the first key head of layer 0 attend `offsets` tokens back.

    RoPE turns queries and keys by their positions. The score of two constant vectors is largest at
    the distance by which the query is turned beforehand.
    """
    text = model.config.text_config
    size = text.hidden_size // text.num_attention_heads
    attention = model.model.language_model.layers[0].self_attn
    speeds = text.rope_parameters["rope_theta"] ** (-torch.arange(size // 2) / (size // 2))
    key = slice(0, size)
    attention.k_proj.weight[key] *= KEPT
    attention.k_proj.bias[key] = torch.cat(
        [torch.full((size // 2,), STRENGTH), torch.zeros(size // 2)]
    )
    for head, offset in enumerate(offsets):
        query = slice(head * size, (head + 1) * size)
        attention.q_proj.weight[query] *= KEPT
        attention.q_proj.bias[query] = STRENGTH * torch.cat(
            [torch.cos(-offset * speeds), torch.sin(-offset * speeds)]
        )
        attention.o_proj.weight[:, query] *= LOUD


def random_repeats(
    rng: random.Random, vocabulary: int, first: int, rows: int = 32, length: int = 64
) -> dict[str, torch.Tensor]:
    """Return rows of random tokens in which parts repeat at random distances.

    Only tokens that repeat what stood before have labels: `input_ids`, `attention_mask` and
    `labels`, each (rows, length). Tokens are drawn from `first` to `vocabulary`.
    """

    def draw(count: int) -> list[int]:
        return [rng.randrange(first, vocabulary) for _ in range(count)]

    ids, labels = [], []
    for _ in range(rows):
        part = draw(rng.randint(4, 24))
        row = draw(rng.randint(0, 12)) + part
        label = [-100] * len(row)
        while len(row) < length:
            between, start = draw(rng.randint(0, 8)), rng.randrange(len(part) - 1)
            row += between + part[start:]
            label += [-100] * (len(between) + 1) + part[start + 1 :]
        ids.append(row[:length])
        labels.append(label[:length])
    tokens = torch.tensor(ids)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": torch.tensor(labels),
    }
