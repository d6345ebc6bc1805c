"""Packed rows: the prompt of a group once, then its completions, in one sequence without padding.

The G rollouts of a question have the same prompt and the same video. An ordinary forward pass
computes them G times and computes padding too. A packed row holds, for each distinct prompt,

    prompt without its last token | last token, completion 1 | … | last token, completion G

Every completion attends to the prompt and to itself, and its positions continue those of the
prompt. The last token of the prompt is repeated because it predicts the first token of every
completion. The last token of a completion predicts nothing and is left out. Log-probs and gradients
are those of ordinary rows up to rounding. Nothing is cached, so gradient checkpointing, adapters,
ZeRO-3 and FSDP2 work as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from p2r import data
from p2r.engines.folded_attention import attend_folded, folded_attention
from p2r.training.shared_prompts import Prompts, backbone_of, place_prompts

ATTENTION = "sdpa_packed"  # the name of `packed_attention` among the functions of transformers
IGNORED = data.IGNORED


@dataclass(frozen=True)
class Group:
    """One prompt and its completions in a packed row.

    `prefix` is the number of tokens that all completions see. `lengths` are the tokens of each
    completion. `mask` (longest, prefix + longest) is True where a token of a completion attends to
    a token of the prompt or of its completion (None: there are no completions).
    """

    prefix: int
    lengths: tuple[int, ...]
    mask: torch.Tensor | None

    @property
    def tokens(self) -> int:
        return self.prefix + sum(self.lengths)


@dataclass(frozen=True)
class Packed:
    """A packed row of N tokens.

    `inputs` are the arguments of a model with TRL's fused LM head. `rows` and `columns` (n,) are
    the places of the n scored tokens in a batch of B completions of T tokens.
    """

    inputs: dict[str, Any]
    rows: torch.Tensor
    columns: torch.Tensor
    shape: tuple[int, int]  # B, T

    def unpack(self, values: torch.Tensor) -> torch.Tensor:
        """Return values of the packed row, (1, N) or (1, N, width), as (B, T) or (B, T, width).

        Padding is 0.
        """
        scored = values[self.inputs["shift_labels"] != IGNORED]
        found = values.new_zeros((*self.shape, *scored.shape[1:]))
        return found.index_put((self.rows, self.columns), scored)


def pack(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    token_types: torch.Tensor,
    width: int,
    vision: Sequence[data.Batch],
) -> Packed:
    """Pack B rows of left-padded prompts and right-padded completions into one row.

    `input_ids`, `attention_mask` and `token_types` are (B, P + `width`), with P prompt tokens.
    `vision` holds the vision inputs of each row. Rows with the same vision object have the same
    prompt. `model` has been through `accept_packed_rows`.
    """
    length = input_ids.size(1) - width
    prompts = Prompts.of(vision, input_ids.device)
    first = prompts.first
    asked = input_ids[first, :length]
    real = attention_mask[first, :length].bool()
    types = token_types[first, :length]
    places = place_prompts(backbone_of(model), asked, real.long(), types, prompts.vision)
    said = attention_mask[:, length:].sum(1).tolist()
    members: list[list[int]] = [[] for _ in first]
    for row, prompt in enumerate(prompts.of_row.tolist()):
        members[prompt].append(row)
    ids, labels, positions, groups, order = [], [], [], [], []
    for prompt, rows in enumerate(members):
        tokens, placed = asked[prompt][real[prompt]], places[:, prompt, real[prompt]]
        rows = [row for row in rows if said[row]]  # an empty completion has nothing to score
        prefix = len(tokens) - 1
        lengths = tuple(said[row] for row in rows)
        ids.append(tokens[:-1])
        labels.append(torch.full_like(tokens[:-1], IGNORED))
        positions.append(placed[:, :-1])
        # Positions follow the prompt's last token, as in an ordinary forward pass. (The model's
        # `rope_deltas` follow the largest position. After a long video that is later.)
        end = placed[:, -1:] + torch.arange(max(lengths, default=0), device=placed.device)
        for row, count in zip(rows, lengths, strict=True):
            completion = input_ids[row, length : length + count]
            ids += [tokens[-1:], completion[:-1]]
            labels.append(completion)
            positions.append(end[:, :count])
        groups.append(Group(prefix, lengths, _causal_after(prefix, end.size(1), ids[0].device)))
        order += rows
    device = input_ids.device
    counts = torch.tensor([said[row] for row in order], device=device)
    inside = torch.arange(width, device=device) < counts[:, None]
    columns = inside.nonzero()[:, 1]
    return Packed(
        inputs={
            "input_ids": torch.cat(ids)[None],
            "position_ids": torch.cat(positions, 1)[:, None],
            "shift_labels": torch.cat(labels)[None],
            "packing": tuple(groups),
            **prompts.vision,
        },
        rows=torch.tensor(order, device=device).repeat_interleave(counts),
        columns=columns,
        shape=(len(said), width),
    )


def _causal_after(prefix: int, count: int, device: torch.device) -> torch.Tensor:
    """Return a causal mask (count, prefix + count) of the tokens that follow a prefix."""
    return torch.ones(count, prefix + count, dtype=torch.bool, device=device).tril(prefix)


# ---------------------------------------------------------------------------------------- attention


def accept_packed_rows(model: Any) -> None:
    """Let the decoder of a model take packed rows; other inputs are computed as before."""
    AttentionInterface.register(ATTENTION, packed_attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    for module in backbone_of(model).language_model.modules():
        if (config := getattr(module, "config", None)) is not None:
            config._attn_implementation = ATTENTION


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: tuple[Group, ...] | None = None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Serves the attention of transformers: folded SDPA, and with `packing` within each group.

    Queries, keys and values are (B, heads, N, width), with fewer heads of keys than of queries;
    returns (B, N, heads, width). No mask of size N × N is made. The prompt attends to itself, and
    the completions of a group are a batch of sequences that continue the prompt. Keys are not
    repeated for all heads.
    """
    if packing is None:
        return folded_attention(module, query, key, value, attention_mask, **settings)
    attend = partial(
        scaled_dot_product_attention,
        scale=settings.get("scaling"),
        dropout_p=settings.get("dropout", 0.0),
    )
    sizes = [group.tokens for group in packing]
    parts = zip(*(states[0].split(sizes, 1) for states in (query, key, value)), strict=True)
    found = [
        states
        for group, part in zip(packing, parts, strict=True)
        for states in _attend_group(attend, group, *part)
    ]
    return torch.cat(found)[None], None


def _attend_group(
    attend: Callable[..., torch.Tensor],
    group: Group,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
) -> list[torch.Tensor]:
    """Return the outputs of the prompt and of the completions of one group, (tokens, heads, width).

    Queries, keys and values are (heads, tokens, width).
    """
    prefix, lengths = group.prefix, group.lengths
    alone = group.tokens if len(lengths) < 2 else prefix  # with one completion, a causal sequence
    found = []
    if alone:
        whole = [states[None, :, :alone] for states in (query, key, value)]
        found.append(attend(*whole, is_causal=True, enable_gqa=True)[0].transpose(0, 1))
    if len(lengths) < 2:
        return found
    query, *said = (_unfold(states[:, prefix:], lengths) for states in (query, key, value))
    before = [states[:, :prefix].expand(len(lengths), -1, -1, -1) for states in (key, value)]
    key, value = (torch.cat(both, 2) for both in zip(before, said, strict=True))
    seen = attend_folded(attend, query, key, value, group.mask)
    return [*found, *(each[:count] for each, count in zip(seen, lengths, strict=True))]


def _unfold(states: torch.Tensor, lengths: tuple[int, ...]) -> torch.Tensor:
    """Turn (heads, sum of lengths, width) into (completions, heads, longest, width), padded."""
    if len(set(lengths)) == 1:
        return states.unflatten(1, (len(lengths), lengths[0])).transpose(0, 1)
    parts = states.transpose(0, 1).split(lengths)
    return pad_sequence(list(parts), batch_first=True).transpose(1, 2)
