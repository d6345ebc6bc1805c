"""Checks what RL needs before any weight is loaded: settings, judge, questions, micro-batches."""

from __future__ import annotations

from typing import Any

from p2r.errors import UserError
from p2r.records import Question
from p2r.runs.recipe import Recipe, RlSettings


def check_rl(recipe: Recipe) -> tuple[str, ...]:
    """Check the RL settings of a recipe; return the processes whose reward it learns from.

    Raises `UserError`.
    """
    from p2r.rewards import load_reward, rewards_in_use

    rl = recipe.rl
    if rl.reward is not None:
        load_reward(rl.reward)
    try:
        used = rewards_in_use(rl.credit, rl.rewards)
    except ValueError as error:
        raise UserError(f"{error}: change rl.credit or rl.rewards") from error
    if "perception" in used and recipe.sft.target == "agnostic":
        raise UserError(
            f"credit={rl.credit} rewards observations, but with sft.target=agnostic the model "
            "writes no observations: set rl.credit=outcome, or sft.target=process"
        )
    if rl.dynamic_sampling in ("perception", "reasoning") and rl.dynamic_sampling not in used:
        raise UserError(
            f"rl.dynamic_sampling={rl.dynamic_sampling}, but the training does not learn from the "
            f"{rl.dynamic_sampling} reward: set rl.dynamic_sampling=all, or change rl.credit"
        )
    if rl.group_size < 2:
        raise UserError(
            "rl.group_size is 1: an advantage compares at least 2 rollouts, set 2 or more"
        )
    if rl.temperature == 0:
        raise UserError(
            "rl.temperature is 0: all rollouts of a question would be the same, and RL could not "
            "compare them: set a higher temperature, for example 1"
        )
    _check_loss(rl)
    if rl.rollouts == "vllm" and recipe.vllm.tensor_parallel not in ("auto", 1):
        raise UserError(
            "vLLM inside the trainer runs on one device: set vllm.tensor_parallel=1, or "
            "rl.rollouts=vllm-server"
        )
    if rl.rollouts != "transformers" and recipe.tuning.quantise:
        raise UserError(
            f"tuning.quantise={recipe.tuning.quantise} needs rl.rollouts=transformers: vLLM cannot "
            "load the quantised weights of the trainer. Or leave out tuning.quantise"
        )
    _check_overlap(rl)
    if rl.rollouts == "vllm-server" and recipe.server.media != "exact":
        raise UserError("rollouts need the same frames as the trainer: set server.media=exact")
    return used


def _check_loss(rl: RlSettings) -> None:
    """Refuse settings of the loss that would have no effect, or that do not go together."""
    clips = {
        "rl.epsilon_high": rl.epsilon_high is not None,
        "rl.ratio=sequence": rl.ratio == "sequence",
        "rl.loss=cispo": rl.loss == "cispo",
    }
    if rl.updates == 1 and any(clips.values()):
        named = ", ".join(name for name, given in clips.items() if given)
        raise UserError(
            f"{named} would have no effect: with one update per batch of rollouts the ratio is 1 "
            "and nothing is clipped. Set rl.updates=2 or more"
        )
    if rl.loss == "cispo" and (rl.epsilon_high is None or rl.epsilon_high < 1):
        raise UserError("rl.loss=cispo needs the largest ratio: set rl.epsilon_high, for example 5")
    if rl.ratio == "sequence" and rl.loss != "grpo":
        raise UserError(f"rl.ratio=sequence (GSPO) needs rl.loss=grpo, not {rl.loss}")
    # A validation saves a checkpoint too, if it is the best so far.
    for key in ("steps", "save_steps", "validate_every"):
        if (steps := getattr(rl, key)) % rl.updates:
            raise UserError(
                f"rl.{key}={steps} must be a multiple of rl.updates={rl.updates}, so that a batch "
                "of rollouts is used completely"
            )


def _check_overlap(rl: RlSettings) -> None:
    """Refuse `rl.overlap` with settings that must sample during a step."""
    if rl.overlap and rl.rollouts != "vllm-server":
        raise UserError(
            "rl.overlap samples while the model is trained, but with "
            f"rl.rollouts={rl.rollouts} the trainer's own device samples: set "
            "rl.rollouts=vllm-server, or rl.overlap=false"
        )
    if rl.overlap and rl.dynamic_sampling != "none":
        raise UserError(
            "rl.overlap does not work with rl.dynamic_sampling, which samples again when the "
            "rewards of a step are known: set rl.dynamic_sampling=none, or rl.overlap=false"
        )
    if rl.overlap and rl.credit == "temporal":
        raise UserError(
            "rl.overlap does not work with rl.credit=temporal, which samples a second group in "
            "each step: set another rl.credit, or rl.overlap=false"
        )


def judge_of(recipe: Recipe) -> str | dict[str, Any]:
    """Return the judge that RL asks: `none` if no reward needs the verdicts and each costs money.

    A free judge is always asked, for the log. `rl.judge_always` asks any judge. Raises `UserError`
    if the perception reward is in use without a judge.
    """
    from p2r.judges import asks_nothing, is_free

    rl = recipe.rl
    if "perception" in check_rl(recipe):
        if asks_nothing(rl.judge):
            raise UserError(
                f"credit {rl.credit!r} needs verdicts for the perception reward, but rl.judge is "
                "none: set a judge, or leave out the reward (rl.rewards, rl.credit=outcome)"
            )
        return rl.judge
    return rl.judge if rl.judge_always or is_free(rl.judge) else "none"


def divide_rollouts(rl: RlSettings, workers: int) -> int:
    """Return the number of micro-batches of each worker in a step, all for one optimiser update.

    Raises `UserError` if the rollouts cannot be divided evenly.
    """
    rollouts = rl.prompts_per_step * rl.group_size
    accumulation, left = divmod(rollouts, rl.micro_batch * workers)
    if left or not accumulation:
        each, odd = divmod(rollouts, workers)
        sizes = [size for size in range(1, rl.micro_batch + 1) if not odd and not each % size]
        fitting = f" (to {sizes[-1]}, for example)" if sizes else ""
        raise UserError(
            f"{rl.prompts_per_step} prompts × {rl.group_size} rollouts = {rollouts} rollouts "
            f"cannot be divided into micro-batches of {rl.micro_batch} on {workers} worker(s): "
            f"change rl.micro_batch{fitting}, rl.prompts_per_step or rl.group_size"
        )
    return accumulation


def find_no_reward(question: Question) -> str | None:
    """Return why a question cannot be rewarded; None if it can."""
    from p2r.scoring import accuracy

    if (count := len(question.media)) > 1:
        return (
            f"question {question.id!r} has {count} media files, but RL takes one: use it for SFT "
            "or for evaluation"
        )
    truth = question.answer
    if truth.strip() and accuracy(question.problem_type, "", truth, question.options) is not None:
        return None
    return (
        f"question {question.id!r} cannot be rewarded: {truth[:40]!r} is not a valid reference "
        f"answer for the type {question.problem_type!r}"
    )
