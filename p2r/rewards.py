"""Process rewards (eq. 5), process advantages (eq. 6) and how credit is spread over tokens.

Rewards are (N, 2) arrays: column 0 perception, column 1 reasoning, the rollouts of one question in
consecutive rows; NaN is unknown. Lists, NumPy arrays and torch tensors come in, and the same kind
comes out (an array for a list). Paper: VideoP2R, arXiv 2511.11113.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .records import ProcessReward

if TYPE_CHECKING:
    import torch

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


def credit_advantages(scheme: str, rewards: Any, group_size: int) -> Any:
    """The advantages of perception and of reasoning tokens, (N, 2), under a scheme of `CREDITS`.

    An unknown reward makes the sum of "shared" unknown: that rollout is left out of its group and
    gets 0. In "decoupled" the other reward still counts. Raises ValueError for an unknown scheme
    or a shape that does not fit.
    """
    if scheme not in CREDITS:
        raise ValueError(f"unknown credit scheme {scheme!r}: use one of {', '.join(CREDITS)}")
    values, as_given = _read(rewards)
    if values.shape[1] != 2:
        raise ValueError(f"credit needs rewards of shape (N, 2), not {values.shape}")
    return as_given(CREDITS[scheme](values, group_size))


def spread_advantages(
    advantages: torch.Tensor, perception_lengths: torch.Tensor, completion_mask: torch.Tensor
) -> torch.Tensor:
    """The advantage of every token, for the loss of eq. (7).

    `advantages` (N, 2) from `credit_advantages`; `perception_lengths` (N,): the first so many
    tokens of a completion belong to perception; `completion_mask` (N, T), 1 on completion tokens.
    Returns (N, T) in the dtype of `advantages`, 0 where the mask is 0.
    """
    import torch

    lengths = torch.as_tensor(perception_lengths, device=completion_mask.device)
    count, tokens = completion_mask.shape
    if tuple(advantages.shape) != (count, 2) or tuple(lengths.shape) != (count,):
        raise ValueError(
            f"advantages {tuple(advantages.shape)} and perception lengths {tuple(lengths.shape)} "
            f"do not fit {count} completions: expected ({count}, 2) and ({count},)"
        )
    places = torch.arange(tokens, device=completion_mask.device)
    of_perception = places < lengths[:, None]
    spread = torch.where(of_perception, advantages[:, :1], advantages[:, 1:])
    return torch.where(completion_mask.bool(), spread, torch.zeros_like(spread))


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
