"""Checks of the method, written from scratch in notebook 06: parser border to loss.

Each check compares the learner's function with `p2r.rewards` or `p2r.training.step` on hand-made
inputs. It prints "passed", or the first input where the two functions differ, and both results. It
returns the function that the notebook uses next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import torch

from p2r.rewards import (
    credit_advantages,
    process_advantages,
    process_reward,
    spread_advantages,
)
from p2r.template import perception_length
from p2r.training import step as pa_grpo
from p2r.workshop.checks.compare import Example, compare

Function = Callable[..., Any]


class _Pieces:
    """A tokenizer whose token ids are indices into a list of texts."""

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = list(pieces)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.pieces[index] for index in ids)


def border(tokens: Sequence[str]) -> int:
    """Return how many leading tokens belong to perception, by p2r's parser."""
    return perception_length(_Pieces(tokens), range(len(tokens)))


_BORDERS = (
    Example("a response with all segments", (
        ["<observation>", "A red circle", "</observation>", "<think>", "So", "</think>"],
    )),
    Example("the tag is spread over several tokens", (
        ["<", "observation>", "Two.", "</", "observation", ">", " ", "<think>"],
    )),
    Example("one token holds the end of the tag and more", (
        ["<observation>", "Two.", "</observation", "> <think>", "So."],
    )),
    Example("the observation never ends", (["<observation>", "A red circle", " moves"],)),
    Example("an end without a beginning", (["A circle", "</observation>", "<think>"],)),
    Example("two observations: the first one counts", (
        ["<observation>", "a", "</observation>", "<observation>", "b", "</observation>"],
    )),
    Example("no token at all", ([],)),
)  # fmt: skip


def test_border(function: Function) -> Function:
    """Check `border(tokens)`: how many leading tokens belong to perception."""
    return compare(function, border, _BORDERS, ["tokens"])


def reward(
    accuracy: float | None,
    format_ok: bool,
    tokens: int,
    length_range: tuple[int, int],
    bonus: float = 0.2,
) -> float | None:
    """Return the total of eq. (5); None if the accuracy is unknown."""
    return process_reward(accuracy, format_ok, tokens, length_range, bonus).total


_REWARDS = tuple(
    Example(about, (accuracy, format_ok, tokens, (20, 80)))
    for about, accuracy, format_ok, tokens in (
        ("all three parts are earned", 1.0, True, 40),
        ("the shortest length of the range", 1.0, True, 20),
        ("the longest length of the range", 1.0, True, 80),
        ("too long", 1.0, True, 81),
        ("the right length earns nothing alone", 0.0, True, 40),
        ("a wrong format", 1.0, False, 40),
        ("an accuracy between 0 and 1", 0.5, True, 40),
        ("nothing is earned", 0.0, False, 5),
        ("an unknown accuracy is not zero", None, True, 40),
    )
)


def test_reward(function: Function) -> Function:
    """Check `reward(accuracy, format_ok, tokens, length_range)`, eq. (5)."""
    names = ["accuracy", "format_ok", "tokens", "length_range"]
    return compare(function, reward, _REWARDS, names)


def _rows(*rows: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


_GROUPS = (
    Example("one group of four", (_rows((1, 1), (1, 0), (0, 1), (0, 0)), 4)),
    Example("two groups of two: each has its own mean", (_rows((2, 1), (1, 2), (5, 1), (1, 1)), 2)),
    Example("a rare success", (_rows((0, 1), (0, 0), (0, 0), (0, 0)), 4)),
    Example("all rewards are equal", (_rows((1.2, 1), (1.2, 1), (1.2, 1), (1.2, 1)), 4)),
    Example("an unknown reward is left out and gets 0", (_rows((1, 1), (nan, 0), (0, 1)), 3)),
    Example("only one known reward", (_rows((1, nan), (nan, nan), (nan, 2)), 3)),
)


def test_advantages(function: Function) -> Function:
    """Check `advantages(rewards, group_size)`, eq. (6)."""
    return compare(function, process_advantages, _GROUPS, ["rewards", "group_size"])


def grpo_advantages(rewards: Any, group_size: int) -> Any:
    """Return GRPO's advantages: the answer's advantage for the tokens of both processes."""
    return credit_advantages("outcome", rewards, group_size)


def test_grpo_advantages(function: Function) -> Function:
    """Check `grpo_advantages(rewards, group_size)`: the answer's advantage for all tokens."""
    return compare(function, grpo_advantages, _GROUPS[:3], ["rewards", "group_size"])


_SPREADS = (
    Example("two responses of one length", (
        _rows((1, -1), (0.5, 2)), torch.tensor([2, 3]), torch.ones(2, 4),
    )),
    Example("no perception, and perception only", (
        _rows((1, -1), (1, -1)), torch.tensor([0, 3]), torch.ones(2, 3),
    )),
    Example("padding after the shorter response", (
        _rows((1, -1), (3, 4)), torch.tensor([1, 2]),
        torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]),
    )),
)  # fmt: skip


def test_spread(function: Function) -> Function:
    """Check `spread(advantages, borders, mask)`: the advantage of every token."""
    return compare(function, spread_advantages, _SPREADS, ["advantages", "borders", "mask"])


def clipped(ratio: torch.Tensor, advantage: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Return the clipped term of eq. (7) for every token."""
    return torch.min(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)


_RATIOS = torch.tensor([[0.5, 0.9, 1.0, 1.1, 1.5]], dtype=torch.float64)
_CLIPS = (
    Example("a positive advantage: a large ratio is clipped", (_RATIOS, _RATIOS * 0 + 1, 0.2)),
    Example("a negative advantage: a small ratio is clipped", (_RATIOS, _RATIOS * 0 - 2, 0.2)),
)


def test_clipped(function: Function) -> Function:
    """Check `clipped(ratio, advantage, epsilon)`, the first term of eq. (7)."""
    return compare(function, clipped, _CLIPS, ["ratio", "advantage", "epsilon"])


def kl(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return the KL term of eq. (7) for every token."""
    ahead = reference - log_probs
    return ahead.exp() - ahead - 1


_LOGS = torch.tensor([[-0.1, -1.0, -3.0]], dtype=torch.float64)
_KLS = (
    Example("equal probabilities", (_LOGS, _LOGS)),
    Example("the policy has moved", (_LOGS, _LOGS + torch.tensor([[0.5, -0.5, 1.0]]))),
)


def test_kl(function: Function) -> Function:
    """Check `kl(log_probs, reference)`, the second term of eq. (7)."""
    return compare(function, kl, _KLS, ["log_probs", "reference"])


def loss(
    log_probs: torch.Tensor,
    old: torch.Tensor,
    reference: torch.Tensor,
    token_advantages: torch.Tensor,
    mask: torch.Tensor,
    epsilon: float,
    beta: float,
) -> torch.Tensor:
    """Return the loss of `p2r.training.step`, eq. (7)."""
    batch = {
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "advantages": token_advantages,
        "weights": mask,
    }
    return pa_grpo.loss(batch, log_probs, epsilon, beta)[0]


def _loss_example(about: str, beta: float, mask: list[list[int]]) -> Example:
    random = torch.Generator().manual_seed(0)
    logs, old, reference, advantages = (
        torch.randn(2, 4, generator=random, dtype=torch.float64) for _ in range(4)
    )
    return Example(about, (logs, old, reference, advantages, torch.tensor(mask), 0.2, beta))


_LOSSES = (
    _loss_example("no KL term, equal lengths", 0.0, [[1, 1, 1, 1], [1, 1, 1, 1]]),
    _loss_example("with the KL term", 0.1, [[1, 1, 1, 1], [1, 1, 1, 1]]),
    _loss_example("different lengths: mean of each response first", 0.1, [[1, 1, 0, 0], [1] * 4]),
)


def test_loss(function: Function) -> Function:
    """Check `loss(log_probs, old, reference, token_advantages, mask, epsilon, beta)`, eq. (7)."""
    names = ["log_probs", "old", "reference", "token_advantages", "mask", "epsilon", "beta"]
    return compare(function, loss, _LOSSES, names)
