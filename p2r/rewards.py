"""The equations: process rewards (5), process advantages (6), token credit and weights (7).

Rewards are (N, 2) arrays: column 0 is perception, column 1 is reasoning, NaN is unknown. The
rollouts of one question are consecutive rows. Functions accept lists, NumPy arrays and torch
tensors and return the same type (an array for a list). Paper: VideoP2R, arXiv 2511.11113.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from p2r.errors import TrainingError, UserError
from p2r.files.user_code import load_object
from p2r.records import ProcessReward, Question, Trace, Verdict

if TYPE_CHECKING:
    import torch

PROCESSES = ("perception", "reasoning")  # the columns of rewards and of advantages
EPSILON = 1e-4  # added to the standard deviation, as in TRL's GRPOTrainer
# T-GRPO (Video-R1): size of the temporal reward, share of the shuffled accuracy that the ordered
# accuracy must reach, and the accuracy above which an answer counts as right.
TEMPORAL_REWARD, TEMPORAL_SHARE, TEMPORAL_RIGHT = 0.3, 0.8, 0.1
TOLERANCE = 1e-6  # rewards that differ by at most this much count as equal


def process_reward(
    accuracy: float | None,
    format_ok: bool,
    tokens: int | None,
    length_range: tuple[int, int],
    bonus: float = 0.2,
) -> ProcessReward:
    """Return the reward of process k of a rollout, eq. (5): R_k = R_acc,k + R_form,k + R_len,k.

    R_form is 1 if the tags of the process are correct. R_len is `bonus` if R_acc and R_form are
    both non-zero and the number of tokens of the process is in `length_range` (both ends included).
    An unknown accuracy (None or NaN) stays None and earns no length reward.
    """
    known = None if accuracy is None or math.isnan(accuracy) else float(accuracy)
    low, high = length_range
    fits = tokens is not None and low <= tokens <= high
    return ProcessReward(
        accuracy=known,
        format=float(format_ok),
        length=float(bonus) if known and format_ok and fits else 0.0,
    )


# ---- a reward of the user


@dataclass(frozen=True)
class Rollout:
    """What a reward function gets: one response, its scores, and the rewards of eq. (5).

    `accuracy` is the score of the answer, and `verdict` comes from the judge; None: unknown.
    `perception` and `reasoning` hold the parts R_acc, R_form and R_len of each process.
    """

    question: Question
    trace: Trace
    accuracy: float | None
    verdict: Verdict | None
    perception: ProcessReward
    reasoning: ProcessReward


Reward = ProcessReward | float | None  # None: unknown
RewardFunction = Callable[[Rollout], tuple[Reward, Reward]]


def load_reward(spec: str) -> RewardFunction:
    """Return the function that `rl.reward` names: `FILE.py:NAME` or `package.module:NAME`.

    The function gets a `Rollout` and returns the rewards of perception and of reasoning. A number
    replaces all three parts; None is an unknown reward. Raises `UserError`.
    """
    function = load_object(spec)
    if not callable(function):
        raise UserError(f"rl.reward={spec} is not a function")
    return function


def apply_reward(function: RewardFunction, rollout: Rollout) -> tuple[ProcessReward, ProcessReward]:
    """Return both rewards that a function of the user gives a rollout. Raises `TrainingError`."""
    name = getattr(function, "__name__", "rl.reward")
    where = f"reward function {name} on question {rollout.question.id!r}"
    try:
        perception, reasoning = function(rollout)
        return _as_reward(perception), _as_reward(reasoning)
    except Exception as error:
        raise TrainingError(
            f"{where} failed ({type(error).__name__}: {error}); it must return two rewards, each a "
            "ProcessReward, a finite number or None"
        ) from error


def _as_reward(value: Reward) -> ProcessReward:
    if isinstance(value, ProcessReward):
        return value
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return ProcessReward(accuracy=None if value is None else float(value), format=0.0, length=0.0)


# ---- advantages


def process_advantages(rewards: Any, group_size: int, scale: bool = True) -> Any:
    """Return the advantages of each process within its group, eq. (6): A = (R - mean R) / std R.

    `rewards` is (N, 2), with N a multiple of `group_size`; the result is (N, 2). Mean and standard
    deviation (unbiased, plus 1e-4) are those of TRL's GRPOTrainer with `scale_rewards="group"`, so
    equal rewards of both processes give GRPO. NaN is excluded from the statistics of its group and
    gets 0. A collapsed group (see `collapsed`) gets zeros. Raises ValueError if the shape does not
    fit. Without `scale`, A = R - mean R, as in Dr. GRPO.
    """
    values, as_given = _read(rewards)
    return as_given(_process(values, group_size, scale))


def collapsed(rewards: Any, group_size: int, tolerance: float = TOLERANCE) -> Any:
    """Return which groups give no learning signal: (N / group_size, 2), 1 for collapsed, else 0.

    A group has collapsed for a process if its known rewards are equal within `tolerance` (relative
    to the largest of them, at least 1), or if fewer than two of them are known.
    """
    values, as_given = _read(rewards)
    return as_given(_is_collapsed(_grouped(values, group_size), tolerance).astype(float))


def temporal_rewards(accuracies: Any, shuffled: Any, group_size: int) -> Any:
    """Return the temporal reward of every rollout, for T-GRPO (arXiv 2503.21776, Video-R1).

    `accuracies` (N,) belong to the usual rollouts, `shuffled` (N,) to rollouts on the same frames
    in random order. NaN: unknown, or no such rollout. p is the mean accuracy of a group, p~ that of
    its shuffled rollouts. An answer with an accuracy above 0.1 earns 0.3 if p >= 0.8 p~, otherwise
    0: the model is rewarded if it uses the order of the frames. The paper's text has p >= p~
    without the factor; the values here come from its code. A group without a known shuffled
    rollout (an image, a text) earns 0. Raises ValueError if the shapes do not fit.
    """
    ordered, as_given = _read(_column(accuracies))
    mixed, _ = _read(_column(shuffled))
    if ordered.shape != mixed.shape:
        raise ValueError(f"{len(ordered)} accuracies do not fit {len(mixed)} shuffled ones")
    means = [_known_mean(_grouped(values, group_size)) for values in (ordered, mixed)]
    earned = means[0] >= TEMPORAL_SHARE * means[1] - TOLERANCE  # False if a mean is NaN
    right = _grouped(ordered, group_size) > TEMPORAL_RIGHT + TOLERANCE
    return as_given(np.where(right & earned, TEMPORAL_REWARD, 0.0).reshape(-1))


def _column(values: Any) -> Any:
    """(N,) → (N, 1), of the same type."""
    return values[:, None] if hasattr(values, "shape") else np.asarray(values, dtype=float)[:, None]


def _known_mean(groups: np.ndarray) -> np.ndarray:
    """Return the mean of the known values of each group; NaN if none is known."""
    known = ~np.isnan(groups)
    count = known.sum(axis=1, keepdims=True)
    total = np.where(known, groups, 0.0).sum(axis=1, keepdims=True)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


# ---- credit: the advantage of each token


def _process(rewards: np.ndarray, group_size: int, scale: bool) -> np.ndarray:
    return _normalise(_grouped(rewards, group_size), scale).reshape(rewards.shape)


def _shared(rewards: np.ndarray, group_size: int, scale: bool) -> np.ndarray:
    return _on_all_tokens(_process(rewards.sum(axis=1, keepdims=True), group_size, scale))


def _outcome(rewards: np.ndarray, group_size: int, scale: bool) -> np.ndarray:
    return _on_all_tokens(_process(rewards[:, 1:], group_size, scale))


def _decoupled(rewards: np.ndarray, group_size: int, scale: bool) -> np.ndarray:
    return _on_all_tokens(_process(rewards, group_size, scale).sum(axis=1, keepdims=True))


def _turn(rewards: np.ndarray, group_size: int, scale: bool, discount: float = 1.0) -> np.ndarray:
    looked, reasoned = _process(rewards, group_size, scale).T
    return np.stack([looked + discount * reasoned, reasoned], axis=1)


def _on_all_tokens(advantages: np.ndarray) -> np.ndarray:
    return np.repeat(advantages, 2, axis=1)


# Each scheme turns rewards (N, 2) into the advantages (N, 2) of perception and reasoning tokens.
CREDITS: dict[str, Callable[[np.ndarray, int, bool], np.ndarray]] = {
    "process": _process,  # PA-GRPO: each process has its own advantage
    "shared": _shared,  # "without separation" in the paper: the advantage of the summed rewards
    "outcome": _outcome,  # GRPO: the advantage of the reasoning reward, for all tokens
    "temporal": _outcome,  # T-GRPO: GRPO, with the temporal reward added to the reasoning reward
    "decoupled": _decoupled,  # normalise each reward, use the sum of advantages for all tokens
    "turn": _turn,  # MT-GRPO: perception is turn 1, reasoning is turn 2
}
# With a critic, the advantages are of single tokens and need a model: `p2r.training.critic`.
CRITICS = ("critic", "critic_process")
SCHEMES = (*CREDITS, *CRITICS)
_OUTCOME_ONLY = ("outcome", "temporal", "critic")  # these schemes do not read R_P


def rewards_in_use(scheme: str, switched_on: Collection[str] = PROCESSES) -> tuple[str, ...]:
    """Return the process rewards ("perception", "reasoning") that a credit scheme learns from.

    `switched_on` are the rewards that the recipe turns on. "outcome", "temporal" and "critic" learn
    from the reasoning reward only. Raises ValueError for an unknown scheme, or if no reward is
    left.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown credit scheme {scheme!r}: use one of {', '.join(SCHEMES)}")
    read = ("reasoning",) if scheme in _OUTCOME_ONLY else PROCESSES
    used = tuple(process for process in read if process in switched_on)
    if not used:
        raise ValueError(
            f"credit {scheme!r} needs the reward of {' or '.join(read)}, but only these rewards "
            f"are turned on: {', '.join(switched_on) or 'none'}"
        )
    return used


def credit_advantages(
    scheme: str,
    rewards: Any,
    group_size: int,
    switched_on: Collection[str] = PROCESSES,
    scale: bool = True,
    discount: float = 1.0,
) -> Any:
    """Return the advantages (N, 2) of perception and reasoning tokens under a scheme of `CREDITS`.

    "turn" is MT-GRPO (arXiv 2505.11821): perception is the first turn, reasoning the second and
    last one. Both rewards are normalised within the group. Reasoning tokens get A_R, perception
    tokens A_P + `discount` × A_R, because the answer depends on the observation. With `discount` 1
    this equals MT-GRPO with its turn coefficient at 1, its default. With 0 it is PA-GRPO.

    In "shared", one unknown reward makes the sum unknown: that rollout is excluded from its group
    and gets 0. In "decoupled" and "turn", the other reward still counts.

    `switched_on` are the process rewards that count, as in the ablation of the paper's Table 2. If
    only one is left, its advantage goes to all tokens under every scheme. So the table's row
    without R_P equals process-agnostic RL (both 56.4). Without `scale`, no standard deviation is
    used, see `process_advantages`. Raises ValueError for an unknown scheme or one of `CRITICS`, if
    no reward is left, or for a shape that does not fit.
    """
    used = rewards_in_use(scheme, switched_on)
    if scheme in CRITICS:
        raise ValueError(f"the advantages of credit {scheme!r} need a model: p2r.training.critic")
    values, as_given = _read(rewards)
    if values.shape[1] != 2:
        raise ValueError(f"credit needs rewards of shape (N, 2), not {values.shape}")
    if len(used) == 2:
        credit = partial(_turn, discount=discount) if scheme == "turn" else CREDITS[scheme]
        return as_given(credit(values, group_size, scale))
    column = PROCESSES.index(used[0])
    return as_given(_on_all_tokens(_process(values[:, column : column + 1], group_size, scale)))


def spread_advantages(
    advantages: torch.Tensor, perception_lengths: torch.Tensor, completion_mask: torch.Tensor
) -> torch.Tensor:
    """Return the advantage of every token, for the loss of eq. (7).

    `advantages` (N, 2) come from `credit_advantages`. `perception_lengths` (N,) is the number of
    leading tokens of each completion that belong to perception. `completion_mask` (N, T) is 1 on
    completion tokens. Returns (N, T) in the dtype of `advantages`, 0 where the mask is 0.
    """
    looked, reasoned = process_masks(perception_lengths, completion_mask)
    if tuple(advantages.shape) != (len(looked), 2):
        raise ValueError(
            f"advantages {tuple(advantages.shape)} do not fit {len(looked)} completions: "
            f"expected ({len(looked)}, 2)"
        )
    return looked * advantages[:, :1] + reasoned * advantages[:, 1:]


# ---- normalisation: the weight of each token

NORMALISATIONS = ("sequence", "process")


def token_weights(
    scheme: str, perception_lengths: torch.Tensor, completion_mask: torch.Tensor
) -> torch.Tensor:
    """Return the share of each token in its completion's loss, by a scheme of `NORMALISATIONS`.

    The loss of eq. (7) is the mean over completions of the sum over tokens of weight × (clipped
    term − β KL). Every completion has the same total weight. Both terms are weighted, so β means
    the same in both schemes.

    - "sequence": 1 / |o|, the mean over all tokens of the completion, as in TRL's loss_type "grpo".
      The longer process gets more weight: with 100 perception and 300 reasoning tokens, perception
      gets a quarter.
    - "process": 1 / (2 |o_k|) for the tokens of process k. Each process gets half of the weight. If
      one process is empty, the other gets all of it, which equals "sequence".

    Takes the arguments of `spread_advantages`. Returns (N, T) float32, 0 where the mask is 0; every
    row with a token sums to 1. Raises ValueError for an unknown scheme or a shape that does not
    fit.
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
    """Return two (N, T) boolean masks: the tokens of perception and the tokens of reasoning.

    Every completion token is in exactly one mask, a padding token in neither.
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
    """Return the rewards in double precision, and a function that converts back to their type."""
    if hasattr(rewards, "new_tensor"):  # a torch tensor; this module does not import torch
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


def _normalise(groups: np.ndarray, scale: bool) -> np.ndarray:
    known = ~np.isnan(groups)
    count = known.sum(axis=1, keepdims=True)
    mean = np.where(known, groups, 0.0).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    deviation = np.where(known, groups - mean, 0.0)
    variance = (deviation**2).sum(axis=1, keepdims=True) / np.maximum(count - 1, 1)
    advantages = deviation / (np.sqrt(variance) + EPSILON) if scale else deviation
    return np.where(_is_collapsed(groups, TOLERANCE)[:, None, :], 0.0, advantages)


def _is_collapsed(groups: np.ndarray, tolerance: float) -> np.ndarray:
    known = ~np.isnan(groups)
    high = np.where(known, groups, -np.inf).max(axis=1, initial=-np.inf)
    low = np.where(known, groups, np.inf).min(axis=1, initial=np.inf)
    size = np.maximum(1.0, np.where(known, np.abs(groups), 0.0).max(axis=1, initial=0.0))
    return (known.sum(axis=1) < 2) | (high - low <= tolerance * size)
