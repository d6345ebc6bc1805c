"""Checks of the trainer in notebook 06: one step on real rollouts, against `p2r.training.step`.

The rollouts are an object with `questions` (one per response), `inputs` (of the model: prompts and
responses, left-padded prompts first), `completions` (token ids of each response, with the end of
turn) and `mask` (N, T), 1 on the tokens of the responses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from p2r.judges import NO_OBSERVATION, Judge
from p2r.records import Verdict
from p2r.rewards import process_advantages
from p2r.runs.recipe import RlSettings
from p2r.template import parse
from p2r.training import step as pa_grpo
from p2r.training.step_judge import Judged
from p2r.workshop.checks.compare import TOLERANCE, call_learners, difference, settle

Model = Any
GRADIENT_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Workbench:
    """What a step needs besides models and rollouts: the tokenizer, the judge, the RL settings."""

    tokenizer: Any
    judge: Judge
    settings: RlSettings


@dataclass(frozen=True)
class StepResult:
    """Rewards and advantages (N, 2) and the loss of one step; the loss carries the gradient."""

    rewards: torch.Tensor
    advantages: torch.Tensor
    loss: torch.Tensor


def log_probs(
    model: Model, inputs: dict[str, torch.Tensor], length: int, temperature: float
) -> torch.Tensor:
    """Return the log-probability of each of the last `length` tokens of every row, (N, length).

    The distribution is the one that the tokens were sampled from, at `temperature`.
    """
    logits = model(**inputs, logits_to_keep=length + 1).logits[:, :-1].float() / temperature
    chosen = inputs["input_ids"][:, -length:, None]
    return torch.log_softmax(logits, -1).gather(2, chosen).squeeze(2)


def test_log_probs(
    function: Callable[..., Any], model: Model, rollouts: Any, temperature: float
) -> Callable[..., Any]:
    """Check `log_probs(model, inputs, length)` on rollouts that were sampled at `temperature`."""
    length = rollouts.mask.shape[1]
    ours = partial(log_probs, temperature=temperature)
    with torch.no_grad():
        expected = ours(model, rollouts.inputs, length)
        found, problem = call_learners(function, model, rollouts.inputs, length)
    shapes = [tuple(getattr(values, "shape", ())) for values in (found, expected)]
    if not problem and shapes[0] != shapes[1]:
        problem = f"not yet: the shape is {shapes[0]}, not {shapes[1]}"
    if not problem:
        place = difference(expected * rollouts.mask, found * rollouts.mask, 1e-4)
        problem = place and f"not yet, row and token {place}"
    return settle(function, ours, problem)


def step_result(
    policy: Model,
    reference: Model,
    rollouts: Any,
    bench: Workbench,
    credit: Callable[[torch.Tensor, int], torch.Tensor] | None = None,
) -> StepResult:
    """Compute one step with `p2r.training.step`: rewards, advantages and the loss.

    `credit` turns rewards and group size into advantages (default: the scheme of the settings).
    """
    settings = bench.settings
    step = pa_grpo.Step(list(rollouts.questions), settings.group_size)
    step.completions = rollouts.completions
    step.texts = bench.tokenizer.batch_decode(step.completions, skip_special_tokens=True)
    step.truncated = [False] * len(step.texts)
    verdicts = _verdicts(step, bench.judge)
    pa_grpo.score(step, Judged(verdicts), bench.tokenizer, settings)
    pa_grpo.advantages(step, settings)
    if credit is not None:
        step.advantages = credit(step.rewards, settings.group_size)
    batch = pa_grpo.loss_inputs(step, rollouts.mask, settings)
    length = rollouts.mask.shape[1]
    with torch.no_grad():
        batch["ref_per_token_logps"] = log_probs(
            reference, rollouts.inputs, length, settings.temperature
        )
    logs = log_probs(policy, rollouts.inputs, length, settings.temperature)
    loss, _ = pa_grpo.loss(batch, logs, settings.epsilon, settings.beta)
    return StepResult(step.rewards, step.advantages, loss)


def _verdicts(step: pa_grpo.Step, judge: Judge) -> list[Verdict | None]:
    parsed = [parse(text).observation for text in step.texts]
    observed = {row: observation for row, observation in enumerate(parsed) if observation}
    found = judge.judge([step.questions[row] for row in observed], list(observed.values()))
    verdicts = dict(zip(observed, found, strict=True))
    return [verdicts.get(row, NO_OBSERVATION) for row in range(len(parsed))]


def test_step_loss(
    function: Callable[..., Any],
    policy: Model,
    reference: Model,
    rollouts: Any,
    bench: Workbench,
) -> Callable[..., Any]:
    """Check `step_loss(policy, reference, rollouts, credit)` against `p2r.training.step`.

    Loss and gradient must agree on these rollouts to 1e-5. `credit` is a function from rewards
    and group size to advantages.
    """

    def ours(policy: Model, reference: Model, rollouts: Any, credit: Any) -> Any:
        result = step_result(policy, reference, rollouts, bench, credit)
        return result.loss, result.rewards

    problem = _find_step_difference(function, policy, reference, rollouts, bench)
    policy.zero_grad()
    return settle(function, ours, problem, "passed: loss and gradient agree with p2r.training.step")


def _find_step_difference(
    function: Callable[..., Any],
    policy: Model,
    reference: Model,
    rollouts: Any,
    bench: Workbench,
) -> str:
    expected = step_result(policy, reference, rollouts, bench)
    wanted = gradient_of(expected.loss, policy)
    result, problem = call_learners(function, policy, reference, rollouts, process_advantages)
    if problem:
        return problem
    if not isinstance(result, tuple) or len(result) != 2:
        return "not yet: return two things, the loss and the rewards"
    loss, rewards = result
    if not loss.requires_grad:
        return "not yet: the loss has no gradient (are the policy's log-probs in no_grad?)"
    found = gradient_of(loss, policy)
    if place := difference(expected.rewards, rewards):
        return f"not yet, the rewards differ {place}"
    if place := difference(expected.loss, loss, TOLERANCE):
        return f"not yet, the loss is {place}"
    if (found - wanted).abs().max() > GRADIENT_TOLERANCE * max(1.0, float(wanted.abs().max())):
        return "not yet: the loss agrees but its gradient does not (is something detached?)"
    return ""


def gradient_of(loss: torch.Tensor, model: Model) -> torch.Tensor:
    """Return the gradient of a loss for all weights of a model, as one vector."""
    model.zero_grad()
    loss.backward()
    parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(parts).clone()
