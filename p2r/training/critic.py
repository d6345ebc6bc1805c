"""A critic (`rl.credit=critic` and `critic_process`): a value head gives every token an advantage.

This is PPO: advantages do not come from the statistics of a group. The head reads the policy's last
hidden state before each token and predicts the rewards that are still to come. Generalised
advantage estimation (GAE, arXiv 1506.02438) makes the advantages. They are normalised over all
tokens of a step. With both rewards they are normalised over the tokens of each process, because a
perception token can still earn both rewards and a reasoning token only one.
The loss of the policy is eq. (7) with these advantages.

- `critic`: R_R is paid at the last token of the response.
- `critic_process`: R_P is paid at the last token of perception too.

The head is trained in the same step, after the advantages are computed, with a few updates on the
stored hidden states. The policy gets no gradient from the head. So the head works in the same way
with adapters, and however the policy is divided among workers. Each worker holds the whole head;
gradients are averaged. Checkpoints hold the head, exported models do not.
λ is 1 by default, because a new head knows nothing (VC-PPO, arXiv 2503.01491). Differences from PPO
for language models: the head is small and shares the policy's features, its loss is not clipped,
and the KL term stays in the loss.
"""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from p2r.rewards import EPSILON, TOLERANCE, process_masks, rewards_in_use
from p2r.runs.recipe import RlSettings
from p2r.training.log_probs import join
from p2r.training.step import Step, record_advantages

FILE = "critic.pt"  # in a checkpoint: the head and its optimiser
WIDTH = 128  # of the head's hidden layer


# --------------------------------------------------------------------------------------- equations


def token_rewards(
    rewards: torch.Tensor,
    used: Collection[str],
    perception_lengths: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Return the reward that each token is paid, (B, T).

    `rewards` (B, 2) holds R_P and R_R, NaN: unknown. R_R is paid at the last token, R_P at the last
    token of perception (at the first token, if there is no perception). `used` names the rewards
    that are paid. `mask` (B, T) is 1 on completion tokens.
    """
    rows = torch.arange(len(rewards), device=mask.device)
    found = torch.zeros(mask.shape, dtype=rewards.dtype, device=mask.device)
    paid_at = {"perception": perception_lengths, "reasoning": mask.sum(1)}
    for column, (process, length) in enumerate(paid_at.items()):
        if process in used:
            found[rows, (length - 1).clamp(min=0)] += rewards[:, column].to(mask.device)
    return torch.where(mask.bool(), found, 0.0)


def token_advantages(
    paid: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, discount: float, gae_lambda: float
) -> torch.Tensor:
    """Return the advantage of every token by GAE, (B, T): A_t = δ_t + γ λ A_{t+1}.

    δ_t = r_t + γ V_{t+1} − V_t; after the last token V and A are 0. `paid` are the rewards r,
    `values` the predictions V before each token. An unknown reward makes the advantages of its
    token and of all earlier tokens NaN.
    """
    inside = mask.bool()
    values = torch.where(inside, values, 0.0)
    found = torch.zeros_like(values)
    later_value = later = torch.zeros_like(values[:, 0])
    for place in reversed(range(values.size(1))):
        value = values[:, place]
        advantage = paid[:, place] + discount * later_value - value + discount * gae_lambda * later
        later = torch.where(inside[:, place], advantage, 0.0)
        later_value = value
        found[:, place] = later
    return found


def value_loss(
    values: torch.Tensor, targets: torch.Tensor, known: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return ½ (V − target)² over the known tokens: the mean of each row, then over rows."""
    errors = torch.where(known, values - targets, 0.0)
    return (0.5 * errors.square().sum(1) / mask.sum(1).clamp(min=1)).mean()


# ---------------------------------------------------------------------------------------- the head


def assess_step(trainer: Any, batch: dict[str, Any]) -> None:
    """Fill the advantages of the trainer's step from its critic: one more pass of the policy."""
    states: list[torch.Tensor] = []
    with torch.no_grad():
        trainer._get_per_token_logps_and_entropies(
            trainer.model,
            *join(batch),
            batch["completion_ids"].size(1),
            batch_size=trainer.args.per_device_train_batch_size,
            states=states,
        )
    trainer.critic.assess(trainer.step, torch.cat(states), batch["completion_mask"])
    record_advantages(trainer.step)


class Critic:
    """The value head of one worker, with its optimiser."""

    def __init__(self, features: int, settings: RlSettings, accelerator: Accelerator, seed: int):
        self.settings, self.accelerator = settings, accelerator
        with torch.random.fork_rng(devices=[]):  # the same head on every worker
            torch.default_generator.manual_seed(seed)
            self.head = nn.Sequential(
                nn.LayerNorm(features), nn.Linear(features, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1)
            )
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)
        self.head.to(accelerator.device, torch.float32)
        self.optimizer = torch.optim.AdamW(
            self.head.parameters(), settings.critic.learning_rate, weight_decay=0.0
        )
        self._learned: tuple[torch.Tensor, ...] = ()  # states, targets, known, mask of a step

    def values(self, states: torch.Tensor) -> torch.Tensor:
        """Return the value of each hidden state, (B, T, hidden) → (B, T)."""
        with torch.autocast(states.device.type, enabled=False):
            return self.head(states.float())[..., 0]

    def assess(self, step: Step, states: torch.Tensor, mask: torch.Tensor) -> None:
        """Fill the advantages of a scored step, and keep what `learn` needs.

        `states` (B, T, hidden) and `mask` (B, T) are those of this worker's rows. All workers must
        call this together. The recorded advantage of a process is the mean over its tokens.
        """
        settings, device = self.settings, mask.device
        lengths = torch.tensor(
            [case.trace.perception_tokens for case in step.cases[step.own]], device=device
        )
        with torch.no_grad():
            values = self.values(states)
        used = rewards_in_use(settings.credit, settings.rewards)
        paid = token_rewards(step.rewards[step.own].to(device), used, lengths, mask)
        raw = token_advantages(paid, values, mask, settings.discount, settings.critic.gae_lambda)
        known = mask.bool() & ~raw.isnan()
        raw = torch.where(known, raw, 0.0)
        targets = torch.where(known, raw + values, 0.0)
        self._learned = states, targets, known, mask
        *_, explained = self._moments(raw, targets, known)
        step.metrics["critic/explained"] = explained
        processes = process_masks(lengths, mask)
        step.token_advantages = raw
        if settings.scale_rewards == "group":
            parts = processes if len(used) == 2 else [mask.bool()]
            step.token_advantages = sum(self._normalised(raw, targets, known & p) for p in parts)
        means = [
            (step.token_advantages * part).sum(1) / part.sum(1).clamp(min=1) for part in processes
        ]
        rows = gather_object(torch.stack(means, 1).tolist())
        step.advantages = torch.tensor(rows, dtype=step.rewards.dtype)

    def _normalised(
        self, raw: torch.Tensor, targets: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        """Return advantages with mean 0 and deviation 1 over the known tokens of the step."""
        mean, deviation, _ = self._moments(raw, targets, known)
        equal = deviation <= TOLERANCE * max(1.0, abs(mean))  # all tokens are equally good
        return torch.where(known, (raw - mean) * (not equal) / (deviation + EPSILON), 0.0)

    def _moments(
        self, raw: torch.Tensor, targets: torch.Tensor, known: torch.Tensor
    ) -> tuple[float, float, float]:
        """Return mean and deviation of the advantages, and the share of the targets' variance that
        the head explains, over the known tokens of all workers.
        """
        both = [torch.where(known, part, 0.0).double() for part in (raw, targets)]
        sums = [known.sum().double(), *(f.sum() for part in both for f in (part, part.square()))]
        total = self.accelerator.reduce(torch.stack(sums), reduction="sum")
        count, *rest = total.tolist()
        mean, square, target, target_square = (each / max(count, 1.0) for each in rest)
        variance, spread = (max(square - mean**2, 0.0), max(target_square - target**2, 0.0))
        explained = 1 - variance / spread if spread > EPSILON else float("nan")
        return mean, variance**0.5, explained

    def learn(self) -> float:
        """Train the head on the last step of `assess`; return its loss before the training.

        The states are kept, so the updates need no pass of the policy. All workers must call this
        together.
        """
        losses = [self._update(*self._learned) for _ in range(self.settings.critic.updates)]
        self._learned = ()
        return self.accelerator.reduce(losses[0], reduction="mean").item()

    def _update(self, states: torch.Tensor, *wanted: torch.Tensor) -> torch.Tensor:
        """Make one update; the activations of one micro-batch are in memory at a time."""
        whole = torch.zeros((), device=states.device)
        parts = (each.split(self.settings.micro_batch) for each in (states, *wanted))
        for rows, *wanted_rows in zip(*parts, strict=True):
            with torch.enable_grad():
                loss = value_loss(self.values(rows), *wanted_rows) * len(rows) / len(states)
                loss.backward()
            whole += loss.detach()
        for parameter in self.head.parameters():
            parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        if self.settings.max_grad_norm:  # 0: no clipping, as in transformers
            torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return whole

    def state(self) -> dict[str, Any]:
        """Return a copy of the head and its optimiser."""
        return deepcopy({"head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()})

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the head and its optimiser from a result of `state`."""
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])

    def save(self, checkpoint: Path) -> None:
        """Write the head and its optimiser into a checkpoint."""
        torch.save(self.state(), checkpoint / FILE)

    def load(self, checkpoint: Path) -> None:
        """Restore the head and its optimiser from a checkpoint of `save`."""
        device = self.accelerator.device
        self.set_state(torch.load(checkpoint / FILE, map_location=device, weights_only=True))
