"""Checks of the functions that learners write in the other notebooks (06 is in `method`)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import ceil, exp, nan
from typing import Any

from p2r.cases.agreement import cohen_kappa
from p2r.rewards import collapsed
from p2r.scoring import mean_interval
from p2r.template import parse, render
from p2r.video import fit_size, uniform_indices
from p2r.workshop.checks.compare import Example, compare

Function = Callable[..., Any]


def _examples(*pairs: tuple[str, tuple[Any, ...]]) -> list[Example]:
    return [Example(about, arguments) for about, arguments in pairs]


# ---- 01 videos to frames


def test_indices(function: Function) -> Function:
    """Check `indices(total, count)`: the sampled frames of a clip."""
    examples = _examples(
        ("4 of 10 frames", (10, 4)),
        ("a clip with too few frames gives all of them", (5, 8)),
        ("a long clip", (128, 8)),
        ("rounding", (60, 7)),
        ("a single frame", (1, 4)),
    )
    return compare(function, uniform_indices, examples, ["total", "count"])


def video_tokens(frames: int, height: int, width: int) -> int:
    """Return the tokens of a clip of Qwen2.5-VL whose sides are multiples of 28."""
    return ceil(frames / 2) * (height // 28) * (width // 28)


def test_video_tokens(function: Function) -> Function:
    """Check `video_tokens(frames, height, width)`."""
    examples = _examples(
        ("one block of two frames", (2, 28, 28)),
        ("an odd number of frames", (7, 56, 84)),
        ("the paper's training size", (16, *fit_size(720, 1280, max_pixels=128 * 784))),
        ("the paper's inference size", (32, *fit_size(720, 1280, max_pixels=256 * 784))),
    )
    return compare(function, video_tokens, examples, ["frames", "height", "width"])


def event_window(time: float, timestamps: Sequence[float]) -> tuple[float, float] | None:
    """Return the last sampled time before an event and the first one at or after it."""
    place = bisect_left(timestamps, time)
    if place == 0 or place == len(timestamps):
        return None
    return timestamps[place - 1], timestamps[place]


def test_event_window(function: Function) -> Function:
    """Check `event_window(time, timestamps)`: all that the frames tell about an event's time."""
    eight = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    examples = _examples(
        ("eight frames", (2.2, eight)),
        ("exactly on a frame", (2.0, eight)),
        ("two frames tell little", (1.0, [0.0, 3.5])),
        ("after the last frame: nothing shows it", (3.6, eight)),
        ("before the first frame", (0.0, eight)),
    )
    return compare(function, event_window, examples, ["time", "timestamps"])


# ---- 02 generation, 03 filtering


def template_share(texts: Sequence[str]) -> float:
    """Return the share of texts that follow the template."""
    return sum(parse(text).ok for text in texts) / len(texts)


def test_template_share(function: Function) -> Function:
    """Check `template_share(texts)`."""
    right = render("A circle moves.", "So it moves.", "B")
    examples = _examples(
        ("all follow it", ([right, right],)),
        ("one has no think segment", ([right, right.replace("<think>", "")],)),
        ("none does", (["B", "It moves."],)),
    )
    return compare(function, template_share, examples, ["texts"])


def last_step(format_ok: bool, accuracy: float | None, sufficient: bool | None) -> str:
    """Return the last step of the filter that a trace passes, or the unknown that stops it."""
    if not format_ok:
        return "generated"
    if accuracy is None:
        return "answer unknown"
    if accuracy < 0.6:
        return "on template"
    if sufficient is None:
        return "verdict unknown"
    return "kept" if sufficient else "right answer"


def test_last_step(function: Function) -> Function:
    """Check `last_step(format_ok, accuracy, sufficient)`: where the filter stops a trace."""
    examples = _examples(
        ("everything is right", (True, 1.0, True)),
        ("a wrong format", (False, 1.0, True)),
        ("a wrong answer", (True, 0.0, True)),
        ("just right enough", (True, 0.6, True)),
        ("a lucky answer", (True, 1.0, False)),
        ("no verdict", (True, 1.0, None)),
        ("a reference answer that cannot be scored", (True, None, True)),
    )
    names = ["format_ok", "accuracy", "sufficient"]
    return compare(function, last_step, examples, names)


# ---- 04 SFT


def labels(prompt: Sequence[int], response: Sequence[int], end: int) -> list[int]:
    """Return the labels of an example: -100 on the prompt, then the response and the end."""
    return [-100] * len(prompt) + [*response, end]


def test_labels(function: Function) -> Function:
    """Check `labels(prompt, response, end)`."""
    examples = _examples(
        ("a short example", ([5, 6, 7], [8, 9], 2)),
        ("no prompt", ([], [8], 2)),
    )
    return compare(function, labels, examples, ["prompt", "response", "end"])


def masked_loss(log_probs: Sequence[float], labels: Sequence[int]) -> float:
    """Return the mean of -log p over the tokens whose label is not -100."""
    counted = [-p for p, label in zip(log_probs, labels, strict=True) if label != -100]
    return sum(counted) / len(counted)


def test_masked_loss(function: Function) -> Function:
    """Check `masked_loss(log_probs, labels)`."""
    examples = _examples(
        ("the prompt does not count", ([-9.0, -9.0, -1.0, -3.0], [-100, -100, 4, 5])),
        ("all tokens count", ([-1.0, -2.0], [4, 5])),
    )
    return compare(function, masked_loss, examples, ["log_probs", "labels"])


def mean_probability(loss: float) -> float:
    """Return the geometric mean of the probabilities behind a loss."""
    return exp(-loss)


def test_mean_probability(function: Function) -> Function:
    """Check `mean_probability(loss)`."""
    examples = _examples(("no loss", (0.0,)), ("a usual loss", (0.7,)))
    return compare(function, mean_probability, examples, ["loss"])


# ---- 05 rewards and judges, 07 training


def sufficient_share(chance: float, needed: int) -> float:
    """Return how likely all needed facts are described, each with the same chance."""
    return chance**needed


def test_sufficient_share(function: Function) -> Function:
    """Check `sufficient_share(chance, needed)`."""
    examples = _examples(("one fact", (0.5, 1)), ("three facts", (0.5, 3)), ("none", (0.2, 0)))
    return compare(function, sufficient_share, examples, ["chance", "needed"])


def signal(chance: float, group_size: int) -> float:
    """Return how likely a group of yes-or-no rewards is not all equal."""
    return 1 - chance**group_size - (1 - chance) ** group_size


def test_signal(function: Function) -> Function:
    """Check `signal(chance, group_size)`: the share of groups that teach something."""
    examples = _examples(
        ("a fair chance", (0.5, 8)),
        ("nearly always right", (0.95, 8)),
        ("never right", (0.0, 8)),
        ("a group of one", (0.5, 1)),
    )
    return compare(function, signal, examples, ["chance", "group_size"])


def observed_share(true_share: float, error: float) -> float:
    """Return the share of "sufficient" verdicts of a judge that is wrong with probability error."""
    return true_share * (1 - error) + (1 - true_share) * error


def test_observed_share(function: Function) -> Function:
    """Check `observed_share(true_share, error)`."""
    examples = _examples(
        ("a perfect judge", (0.7, 0.0)),
        ("one verdict in ten is wrong", (0.7, 0.1)),
        ("a coin", (0.9, 0.5)),
    )
    return compare(function, observed_share, examples, ["true_share", "error"])


def lost_share(rewards: Any, group_size: int) -> float:
    """Return the share of groups without a signal from either process."""
    return float(collapsed(rewards, group_size).astype(bool).all(axis=1).mean())


def test_lost_share(function: Function) -> Function:
    """Check `lost_share(rewards, group_size)`."""
    import numpy as np

    examples = _examples(
        ("one of two groups is lost", (np.array([[1, 1], [1, 1], [1, 0], [1, 1.0]]), 2)),
        ("an observation still differs", (np.array([[1, 1], [0, 1.0]]), 2)),
        ("one reward is unknown", (np.array([[nan, 1], [0, 1.0]]), 2)),
    )
    return compare(function, lost_share, examples, ["rewards", "group_size"])


# ---- 08 evaluation, 09 case studies


def paired_difference(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Return the mean of second minus first, question by question, with its interval."""
    return mean_interval([b - a for a, b in zip(first, second, strict=True)])


def test_paired_difference(function: Function) -> Function:
    """Check `paired_difference(first, second)`."""
    examples = _examples(
        ("eight questions", ([1, 0, 0, 1, 0, 1, 0, 1], [1, 1, 0, 1, 1, 1, 0, 1])),
        ("equal models", ([1, 0, 1], [1, 0, 1])),
    )
    return compare(function, paired_difference, examples, ["first", "second"])


def kind_of(right: bool, sufficient: bool, truthful: bool) -> str:
    """Return the kind of a case: success, luck, hallucination, perception miss, reasoning slip."""
    if not truthful:
        return "hallucination"
    if right:
        return "success" if sufficient else "luck"
    return "reasoning slip" if sufficient else "perception miss"


def test_kind_of(function: Function) -> Function:
    """Check `kind_of(right, sufficient, truthful)`."""
    examples = _examples(
        ("right for the right reason", (True, True, True)),
        ("right without a reason", (True, False, True)),
        ("enough seen, badly thought", (False, True, True)),
        ("too little seen", (False, False, True)),
        ("something false was described", (False, False, False)),
        ("something false was described, yet the answer is right", (True, True, False)),
    )
    names = ["right", "sufficient", "truthful"]
    return compare(function, kind_of, examples, names)


_CELLS = ((True, True), (True, False), (False, True), (False, False))


def kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """Return Cohen's kappa of two raters."""
    pairs = list(zip(first, second, strict=True))
    counts = [pairs.count(pair) for pair in _CELLS]
    return cohen_kappa(*counts)


def test_kappa(function: Function) -> Function:
    """Check `kappa(first, second)`: agreement beyond chance."""
    yes, no = True, False
    examples = _examples(
        ("perfect agreement", ([yes, no, yes, no], [yes, no, yes, no])),
        ("as good as chance", ([yes, yes, no, no], [yes, no, yes, no])),
        ("in between", ([yes, yes, yes, no, no, no], [yes, yes, no, no, no, yes])),
    )
    return compare(function, kappa, examples, ["first", "second"])


# ---- 10 on GPUs


def training_bytes(parameters: float, trained: float) -> float:
    """Return the bytes of weights, gradients and AdamW states: bfloat16 frozen, float32 trained.

    `parameters` are all weights and `trained` those that get gradients, on top of the frozen ones
    if they are adapters.
    """
    return 2 * (parameters - trained) + 16 * trained


def test_training_bytes(function: Function) -> Function:
    """Check `training_bytes(parameters, trained)`."""
    examples = _examples(
        ("all weights of a 7B model", (7e9, 7e9)),
        ("adapters of 1 %", (3e9, 3e7)),
        ("nothing is trained", (3e9, 0.0)),
    )
    return compare(function, training_bytes, examples, ["parameters", "trained"])


def judge_dollars(
    rollouts: int, steps: int, tokens: tuple[int, int], price: tuple[float, float]
) -> float:
    """Return the price of judging every rollout; `price` is per million input and output tokens."""
    calls = rollouts * steps
    return calls * sum(count * each for count, each in zip(tokens, price, strict=True)) / 1e6


def test_judge_dollars(function: Function) -> Function:
    """Check `judge_dollars(rollouts, steps, tokens, price)`."""
    examples = _examples(
        ("the paper's steps", (56, 1000, (600, 120), (3.0, 15.0))),
        ("a free judge", (56, 1000, (600, 120), (0.0, 0.0))),
    )
    names = ["rollouts", "steps", "tokens", "price"]
    return compare(function, judge_dollars, examples, names)
