"""Data and compute of every arm, and the check that they are equal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from p2r.errors import UserError
from p2r.rewards import CRITICS
from p2r.runs.recipe import Recipe, RlSettings
from p2r.studies.framework.work import Plan

# The recipe keys that decide how much a stage reads and computes.
EQUAL: dict[str, tuple[str, ...]] = {
    "sft": (
        "sft.max_steps",
        "sft.epochs",
        "sft.batch_size",
        "sft.accumulation",
        "sft.global_batch",
    ),
    "rl": (
        *("rl.steps", "rl.prompts_per_step", "rl.group_size", "rl.updates", "rl.max_tokens"),
        *("video.train_frames", "video.train_pixels"),
    ),
}


def value_of(recipe: Recipe, key: str) -> Any:
    """Return the value of a dotted key."""
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value


def check_equal(plan: Plan) -> None:
    """Raise `UserError` if arms train a stage with different data or compute.

    A study lists in `varies` the keys that differ on purpose.
    """
    for stage, keys in EQUAL.items():
        arms = [arm for arm in plan.arms if stage in arm.train]
        for key in keys:
            found = {arm.name: value_of(plan.recipe(arm.overrides), key) for arm in arms}
            if len(set(found.values())) > 1 and key not in plan.study.varies:
                raise UserError(
                    f"study {plan.study.name}: the arms have different values of {key} ({found}). "
                    "Give all arms the same value, or add the key to Study.varies"
                )
    sft = [arm for arm in plan.arms if "sft" in arm.train]
    epochs = any(plan.recipe(arm.overrides).sft.max_steps <= 0 for arm in sft)
    if epochs and any(arm.traces for arm in sft) and "sft.max_steps" not in plan.study.varies:
        raise UserError(
            f"study {plan.study.name}: the arms learn different numbers of traces, so an epoch is "
            "not the same number of steps. Use a run whose recipe sets sft.max_steps, or add "
            "sft.max_steps to Study.varies"
        )


def budgets(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the data and compute that training one model of each arm takes, over all its stages.

    The steps and examples of SFT are None if only epochs limit it.

    T-GRPO samples a second group of half the size, which `rollouts` counts too. `forward` and
    `backward` are the passes over a response in RL: the policy, the reference, a critic's values.
    PAPO reads each response twice.
    """
    found: dict[str, dict[str, Any]] = {}
    for arm in plan.arms:
        trainings = plan.model(arm.name, plan.seeds[0]).trainings
        sft = [t.run.recipe.sft for t in trainings if t.stage == "sft"]
        rl = [t.run.recipe.rl for t in trainings if t.stage != "sft"]
        steps = [each.steps for each in rl]
        if arm.at is not None:  # the last training, up to a checkpoint
            steps[-1] = arm.at
        found[arm.name] = {
            "stages": [training.stage for training in trainings],
            "sft_steps": _sum_or_none(each.max_steps for each in sft),
            "sft_examples": _sum_or_none(
                each.max_steps * (each.global_batch or each.batch_size * each.accumulation)
                for each in sft
            ),
            "rl_steps": sum(steps),
            "rollouts": sum(
                done
                // each.updates
                * each.prompts_per_step
                * (each.group_size + each.group_size // 2 * (each.credit == "temporal"))
                for each, done in zip(rl, steps, strict=True)
            ),
            "forward": sum(map(forward_passes, rl)),
            "backward": sum((1 + bool(each.perception_loss)) * each.updates for each in rl),
        }
    return found


def _sum_or_none(numbers: Iterable[int]) -> int | None:
    """Return the sum; None if a number is not positive, which stands for no limit."""
    found = list(numbers)
    return None if any(number <= 0 for number in found) else sum(found)


def forward_passes(rl: RlSettings) -> int:
    """Return the forward passes over a response: of every update, and those before the first."""
    before = (rl.beta > 0) + (rl.credit in CRITICS) + (rl.updates > 1)
    return before + (1 + bool(rl.perception_loss)) * rl.updates
