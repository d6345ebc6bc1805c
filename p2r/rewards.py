"""Process rewards (eq. 5), process advantages (eq. 6) and how credit and weight are spread over
tokens (eq. 7).

Rewards are (N, 2) arrays: column 0 perception, column 1 reasoning, the rollouts of one question in
consecutive rows; NaN is unknown. Lists, NumPy arrays and torch tensors come in, and the same kind
comes out (an array for a list). Paper: VideoP2R, arXiv 2511.11113.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from p2r.records import ProcessReward

if TYPE_CHECKING:
    import torch

PROCESSES = ("perception", "reasoning")  # the columns of rewards and of advantages
EPSILON = 1e-4  # added to the standard deviation, as in TRL's GRPOTrainer
TOLERANCE = 1e-6  # rewards of a group no further apart than this are equal


def process_reward(
    accuracy: float | None,
    format_ok: bool,
    tokens: int | None,
    length_range: tuple[int, int],
    bonus: float = 0.2,
) -> ProcessReward:
    """The reward of one process k of one rollout, eq. (5): R_k = R_acc,k + R_form,k + R_len,k.

    R_form is 1 if the tags of the process are in place. R_len is `bonus` if R_acc and R_form are
    both non-zero and the length of its segment in tokens lies in the closed `length_range`. An
    unknown accuracy (None or NaN) stays None and earns no length reward.
    """
    known = accuracy is not None and not math.isnan(accuracy)
    low, high = length_range
    fits = tokens is not None and low <= tokens <= high
    return ProcessReward(
        accuracy=float(accuracy) if known else None,
        format=float(format_ok),
        length=float(bonus) if known and accuracy and format_ok and fits else 0.0,
    )


def process_advantages(rewards: Any, group_size: int) -> Any:
    """Advantages of each process within its group, eq. (6): A = (R - mean R) / std R.

    `rewards`: (N, 2), N a multiple of `group_size`; returns (N, 2). Mean and standard deviation
    (unbiased, plus 1e-4) are those of TRL's GRPOTrainer with `scale_rewards="group"`, so equal
    rewards of both processes give GRPO. NaN is left out of its group's statistics and gets 0. A
    group that is collapsed (see `collapsed`) gets zeros throughout. Raises ValueError if the shape
    does not fit.
    """
    values, as_given = _read(rewards)
    return as_given(_normalise(_grouped(values, group_size)).reshape(values.shape))


def collapsed(rewards: Any, group_size: int, tolerance: float = TOLERANCE) -> Any:
    """Which groups give no learning signal: (N / group_size, 2), 1 where collapsed, else 0.

    A group is collapsed for a process if its known rewards are equal within `tolerance` (of the
    larger of 1 and their size), or if fewer than two of them are known.
    """
    values, as_given = _read(rewards)
    return as_given(_is_collapsed(_grouped(values, group_size), tolerance).astype(float))


# ---- credit: which advantage each token gets


def _process(rewards: np.ndarray, group_size: int) -> np.ndarray:
    return _normalise(_grouped(rewards, group_size)).reshape(rewards.shape)


def _shared(rewards: np.ndarray, group_size: int) -> np.ndarray:
    return _on_all_tokens(_process(rewards.sum(axis=1, keepdims=True), group_size))


def _outcome(rewards: np.ndarray, group_size: int) -> np.ndarray:
    return _on_all_tokens(_process(rewards[:, 1:], group_size))


def _decoupled(rewards: np.ndarray, group_size: int) -> np.ndarray:
    return _on_all_tokens(_process(rewards, group_size).sum(axis=1, keepdims=True))


def _on_all_tokens(advantages: np.ndarray) -> np.ndarray:
    return np.repeat(advantages, 2, axis=1)


# Scheme → (N, 2) rewards to the (N, 2) advantages of perception tokens and of reasoning tokens.
CREDITS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "process": _process,  # PA-GRPO: each process its own advantage
    "shared": _shared,  # the paper's "without separation": rewards summed, one advantage for all
    "outcome": _outcome,  # GRPO: the reasoning reward alone, for all tokens
    "decoupled": _decoupled,  # each reward normalised on its own, the sum for all tokens
}


def rewards_in_use(scheme: str, switched_on: Collection[str] = PROCESSES) -> tuple[str, ...]:
    """Which of the process rewards switched on ("perception", "reasoning") a scheme learns from.

    "outcome" learns from the reasoning reward alone. Raises ValueError for an unknown scheme, or
    where no reward is left.
    """
    if scheme not in CREDITS:
        raise ValueError(f"unknown credit scheme {scheme!r}: use one of {', '.join(CREDITS)}")
    read = ("reasoning",) if scheme == "outcome" else PROCESSES
    used = tuple(process for process in read if process in switched_on)
    if not used:
        raise ValueError(
            f"credit {scheme!r} learns from the reward of {' and '.join(read)}, "
            f"which the rewards switched on ({', '.join(switched_on) or 'none'}) leave out"
        )
    return used


def credit_advantages(
    scheme: str, rewards: Any, group_size: int, switched_on: Collection[str] = PROCESSES
) -> Any:
    """The advantages of perception and of reasoning tokens, (N, 2), under a scheme of `CREDITS`.

    An unknown reward makes the sum of "shared" unknown: that rollout is left out of its group and
    gets 0. In "decoupled" the other reward still counts.

    `switched_on`: the process rewards that count, the switches of Table 2. With one reward left
    there is nothing to keep apart, and under every scheme its advantage is that of all tokens: the
    table's row without R_P is process-agnostic RL, of the same figure (56.4). Raises ValueError for
    an unknown scheme, where no reward is left, or for a shape that does not fit.
    """
    used = rewards_in_use(scheme, switched_on)
    values, as_given = _read(rewards)
    if values.shape[1] != 2:
        raise ValueError(f"credit needs rewards of shape (N, 2), not {values.shape}")
    if len(used) == 2:
        return as_given(CREDITS[scheme](values, group_size))
    column = PROCESSES.index(used[0])
    return as_given(_on_all_tokens(_process(values[:, column : column + 1], group_size)))


def spread_advantages(
    advantages: torch.Tensor, perception_lengths: torch.Tensor, completion_mask: torch.Tensor
) -> torch.Tensor:
    """The advantage of every token, for the loss of eq. (7).

    `advantages` (N, 2) from `credit_advantages`; `perception_lengths` (N,): the first so many
    tokens of a completion belong to perception; `completion_mask` (N, T), 1 on completion tokens.
    Returns (N, T) in the dtype of `advantages`, 0 where the mask is 0.
    """
    looked, reasoned = process_masks(perception_lengths, completion_mask)
    if tuple(advantages.shape) != (len(looked), 2):
        raise ValueError(
            f"advantages {tuple(advantages.shape)} do not fit {len(looked)} completions: "
            f"expected ({len(looked)}, 2)"
        )
    return looked * advantages[:, :1] + reasoned * advantages[:, 1:]


# ---- normalisation: how much each token weighs

NORMALISATIONS = ("sequence", "process")


def token_weights(
    scheme: str, perception_lengths: torch.Tensor, completion_mask: torch.Tensor
) -> torch.Tensor:
    """The share of each token in its completion's loss, under a scheme of `NORMALISATIONS`.

    Every completion weighs the same in the loss of eq. (7), the mean over completions of the sum
    over tokens of weight × (clipped term − β KL): both terms are weighted, so that β means the same
    under both schemes.

    - "sequence": 1 / |o|, the mean over all tokens of the completion, as in the paper's code family
      (TRL's loss_type "grpo"). The longer process weighs more: of 100 perception and 300 reasoning
      tokens perception has a quarter.
    - "process": 1 / (2 |o_k|) for the tokens of process k. Each process has half of the completion,
      however long it is; where one is empty, the other has the whole, and this is "sequence".

    Arguments as in `spread_advantages`. Returns (N, T) float32, 0 where the mask is 0; every row
    with a token sums to 1. Raises ValueError for an unknown scheme or a shape that does not fit.
    """
    if scheme not in NORMALISATIONS:
        known = ", ".join(NORMALISATIONS)
        raise ValueError(f"unknown normalisation {scheme!r}: use one of {known}")
    looked, reasoned = process_masks(perception_lengths, completion_mask)
    parts = [looked | reasoned] if scheme == "sequence" else [looked, reasoned]
    lengths = [part.sum(1, keepdim=True) for part in parts]
    present = sum((length > 0).float() for length in lengths)
    return sum(
        part / (present * length).clamp(min=1) for part, length in zip(parts, lengths, strict=True)
    )


def process_masks(
    perception_lengths: torch.Tensor, completion_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which tokens belong to perception and which to reasoning: two (N, T) boolean masks.

    Every completion token is in exactly one, every pad in none.
    """
    import torch

    device = completion_mask.device
    lengths = torch.as_tensor(perception_lengths, device=device)
    count, tokens = completion_mask.shape
    if tuple(lengths.shape) != (count,):
        raise ValueError(
            f"perception lengths {tuple(lengths.shape)} do not fit {count} completions: "
            f"expected ({count},)"
        )
    first = torch.arange(tokens, device=device) < lengths[:, None]
    mask = completion_mask.bool()
    return mask & first, mask & ~first


# ---- groups


def _read(rewards: Any) -> tuple[np.ndarray, Callable[[np.ndarray], Any]]:
    """Rewards in double precision, and the way back to the kind of array they came in."""
    if hasattr(rewards, "new_tensor"):  # torch, which need not be imported to compute rewards
        tensor = rewards if rewards.is_floating_point() else rewards.float()
        values, as_given = tensor.detach().cpu().double().numpy(), tensor.new_tensor
    else:
        values = np.asarray(rewards, dtype=float)
        floating = isinstance(rewards, np.ndarray) and rewards.dtype.kind == "f"
        as_given = partial(np.asarray, dtype=rewards.dtype if floating else float)
    if values.ndim != 2:
        raise ValueError(f"rewards must have shape (N, 2), not {values.shape}")
    return values, as_given


def _grouped(rewards: np.ndarray, group_size: int) -> np.ndarray:
    """(N, K) → (N / group_size, group_size, K)."""
    count, processes = rewards.shape
    if group_size < 1 or count % group_size:
        raise ValueError(f"{count} rewards cannot be split into groups of {group_size}")
    return rewards.reshape(count // group_size, group_size, processes)


def _normalise(groups: np.ndarray) -> np.ndarray:
    known = ~np.isnan(groups)
    count = known.sum(axis=1, keepdims=True)
    mean = np.where(known, groups, 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    deviation = np.where(known, groups - mean, 0.0)
    variance = (deviation**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1)
    advantages = deviation / (np.sqrt(variance) + EPSILON)
    return np.where(_is_collapsed(groups, TOLERANCE)[:, None, :], 0.0, advantages)


def _is_collapsed(groups: np.ndarray, tolerance: float) -> np.ndarray:
    known = ~np.isnan(groups)
    high = np.where(known, groups, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(known, groups, np.inf).min(axis=1, initial=np.inf)
    size = np.maximum(1.0, np.where(known, np.abs(groups), 0.0).max(axis=1, initial=0.0))
    return (known.sum(axis=1) < 2) | (high - low <= tolerance * size)
