"""First weights from which a model learns to copy: small layers, and heads that look back.

A model copies with two attention heads. The first head looks at the token before. The second head
finds an earlier place with the same token and reads the token after it. To copy the values of a
record, the model must also know to which record a value belongs: the name of the record is some
tokens before. Tiny models rarely learn heads that look back. With RoPE, such a head needs large
query and key biases, and AdamW changes these slowly. So these heads are set by hand, and the model
learns the rest.
"""

from __future__ import annotations

import random
from typing import Any

import torch

CALM = 0.1  # weights that write into the residual stream start at this share of their size
# The key heads of layer 0 that look back: the fastest frequency used (radians per token), the
# strength of the biases, and the distances of their query heads.
LOOKS = ((1.0, 6.0, (1, 2)), (0.25, 3.0, (3, 7)))
KEPT = 0.1  # share of the query and key weights that stays in the heads that look back
LOUD = 5.0  # the output of the heads that look back is this many times larger


@torch.no_grad()
def calm_writers(model: Any, share: float = CALM) -> None:
    """Scale down the weights of the language model that write into the residual stream.

    With large weights the stream grows from layer to layer, and the model can no longer read the
    token in it.
    """
    for layer in model.model.language_model.layers:
        layer.self_attn.o_proj.weight.mul_(share)
        layer.mlp.down_proj.weight.mul_(share)


@torch.no_grad()
def look_back(model: Any) -> None:
    """Make heads of layer 0 look back: at single tokens, and at the last few tokens together.

    RoPE turns queries and keys by their positions. If a constant query is turned beforehand, its
    score with a constant key is largest at one distance, which depends on this turn. With all
    frequencies, a head attends to one token. With only the slow frequencies, it attends to all
    tokens near that distance.
    """
    text = model.config.text_config
    size = text.hidden_size // text.num_attention_heads
    group = text.num_attention_heads // text.num_key_value_heads
    attention = model.model.language_model.layers[0].self_attn
    half = size // 2
    speeds = text.rope_parameters["rope_theta"] ** (-torch.arange(half) / half)
    for place, (slow, strength, offsets) in enumerate(LOOKS):
        used = strength * (speeds <= slow)
        key = slice(place * size, (place + 1) * size)
        attention.k_proj.weight[key] *= KEPT
        attention.k_proj.bias[key] = torch.cat([used, torch.zeros(half)])
        for member, offset in enumerate(offsets):
            head = place * group + member
            query = slice(head * size, (head + 1) * size)
            attention.q_proj.weight[query] *= KEPT
            turned = torch.cat([torch.cos(-offset * speeds), torch.sin(-offset * speeds)])
            attention.q_proj.bias[query] = used.repeat(2) * turned
            attention.o_proj.weight[:, query] *= LOUD


def random_repeats(
    rng: random.Random, vocabulary: int, first: int, rows: int = 32, length: int = 64
) -> dict[str, torch.Tensor]:
    """Return rows of random tokens in which parts repeat at random distances.

    The result has `input_ids`, `attention_mask` and `labels`, each (rows, length). Only tokens that
    repeat earlier ones have labels. Tokens are drawn from `first` to `vocabulary`.
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
    return _inputs(ids, labels)


def random_records(
    rng: random.Random, vocabulary: int, first: int, rows: int = 32, length: int = 64
) -> dict[str, torch.Tensor]:
    """Return rows of records, then some of them again, as `random_repeats` does.

    A record is a name of two tokens, then values. Each row has few different values. So the token
    after a value depends on the name, which is some tokens before.
    """
    ids, labels = [], []
    for _ in range(rows):
        values = rng.sample(range(first, vocabulary), rng.randint(2, 8))
        count, width = rng.randint(2, 5), rng.randint(2, 8)
        names = rng.sample([i for i in range(first, vocabulary) if i not in values], 2 * count + 1)
        end = names.pop()
        records = [
            [names.pop(), names.pop(), *rng.choices(values, k=width), end] for _ in range(count)
        ]
        row = [token for record in records for token in record]
        label = [-100] * len(row)
        while len(row) < length:
            record = rng.choice(records)
            row += record
            label += [-100, *record[1:]]
        ids.append(row[:length])
        labels.append(label[:length])
    return _inputs(ids, labels)


def _inputs(ids: list[list[int]], labels: list[list[int]]) -> dict[str, torch.Tensor]:
    tokens = torch.tensor(ids)
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": torch.tensor(labels),
    }
