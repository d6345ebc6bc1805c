"""Plans an RL run: the work of a step and the memory it needs, before any weight is loaded.

`p2r doctor --recipe R --gpus N` and `p2r rl --dry-run` (see `p2r.training.dry_run`) print the plan.
It needs no weights and no network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from p2r.errors import UserError
from p2r.families import published_configs, read_sizes
from p2r.families.sizes import (
    Architecture,
    count_parameters,
    count_trained,
    most_moment_tokens,
    most_vision_tokens,
    vision_tokens,
)
from p2r.records import Question
from p2r.runs.recipe import Recipe, RlSettings, SftSettings
from p2r.template import build_prompt
from p2r.training.memory import CARDS, GIB, Load, Sharding, estimate_memory, fits, peak_memory
from p2r.training.rl_checks import divide_rollouts, judge_of
from p2r.video import fit_size

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT_TOKENS = 21  # most tokens that a chat template adds to the text of a question (Qwen2.5-VL)
CHARACTERS_PER_TOKEN = 4.5  # of English prompts; most have fewer
# A question of typical length, used if there is no data set.
TYPICAL = Question(
    id="typical",
    problem="What does the person in the red coat do right after opening the door of the car?",
    options=["A. sits down behind the wheel", "B. takes out a bag", "C. waves", "D. walks away"],
    problem_type="multiple choice",
    answer="A",
)
SHARDINGS = get_args(Sharding)


@dataclass(frozen=True)
class Plan:
    """One step of RL on some GPUs: its sizes, and the memory of each GPU in bytes by part."""

    recipe: Recipe
    model: str
    load: Load
    accumulation: int
    vision_tokens: int
    wide_tokens: int
    text_tokens: int
    parameters: int
    trained: int
    memory: dict[str, int]


def accumulation(sft: SftSettings, gpus: int) -> int:
    """Return the forward passes of each GPU per optimiser step of SFT; raises `UserError`."""
    if sft.global_batch is None:
        return sft.accumulation
    passes, left = divmod(sft.global_batch, sft.batch_size * gpus)
    if left or not passes:
        raise UserError(
            f"sft.global_batch={sft.global_batch} cannot be divided into batches of "
            f"{sft.batch_size} on {gpus} worker(s): change sft.batch_size or sft.global_batch"
        )
    return passes


def plan_rl(
    recipe: Recipe,
    gpus: int = 1,
    sharding: Sharding | None = None,
    model: str | None = None,
    questions: Sequence[Question] = (),
) -> Plan:
    """Plan the RL of a recipe on `gpus` GPUs, from `model` (default: the recipe's base).

    `sharding`: "zero3" (default with several GPUs), "zero2", "fsdp2", or "none" (each GPU holds
    everything).
    The prompt length is that of the longest of `questions`, or of a typical question. Raises
    `UserError` and `EngineError`.
    """
    rl, video = recipe.rl, recipe.video
    sharding = sharding or ("zero3" if gpus > 1 else "none")
    _check_settings(recipe, gpus, sharding)
    accumulation = divide_rollouts(rl, gpus)
    model = model or recipe.models.base
    sizes = read_architecture(model)
    if video.factor % sizes.factor:
        raise UserError(
            f"frames are resized to multiples of {video.factor} pixels, but {model} needs "
            f"multiples of {sizes.factor}: set video.factor={sizes.factor}"
        )
    most = most_vision_tokens(sizes, video.train_frames, video.train_pixels)
    wide = fit_size(720, 1280, video.train_pixels, video.factor)
    text = count_text(model, questions or [TYPICAL], recipe.style)
    text += most_moment_tokens(sizes, video.train_frames)
    if most + text + rl.max_tokens > sizes.positions:
        raise UserError(
            f"{most} video + {text} text + {rl.max_tokens} response tokens are more than "
            f"{sizes.positions}, the limit of {model}: lower video.train_frames, "
            "video.train_pixels or rl.max_tokens"
        )
    rollouts = rl.prompts_per_step * rl.group_size // gpus
    load = Load(
        sharding=sharding,
        gpus=gpus,
        wide=2 if recipe.models.dtype == "bfloat16" else 4,
        lora_rank=recipe.tuning.lora_rank,
        freeze_vision=recipe.tuning.freeze_vision,
        reference=rl.beta > 0,
        recompute=recipe.models.dtype == "bfloat16",
        micro_batch=rl.micro_batch,
        rollouts=rollouts,
        prompts=min(rl.prompts_per_step, rollouts),
        prompt_tokens=most + text,
        completion_tokens=rl.max_tokens,
        patches=most * sizes.merge**2,
        sampler=rl.rollouts,
        copies=2 if rl.perception_loss else 1,
    )
    return Plan(
        recipe=recipe,
        model=model,
        load=load,
        accumulation=accumulation,
        vision_tokens=most,
        wide_tokens=vision_tokens(sizes, video.train_frames, *wide),
        text_tokens=text,
        parameters=sum(count_parameters(sizes).values()),
        trained=count_trained(sizes, load.lora_rank, load.freeze_vision),
        memory=estimate_memory(sizes, load),
    )


def _check_settings(recipe: Recipe, gpus: int, sharding: str) -> None:
    from p2r.judges import check_spec

    if gpus < 1:
        raise UserError(f"--gpus {gpus}: give at least 1")
    if sharding not in SHARDINGS:
        raise UserError(f"unknown sharding {sharding!r}: use one of {', '.join(SHARDINGS)}")
    check_spec(judge_of(recipe))


def read_architecture(model: str) -> Architecture:
    """Return a model's sizes from its folder, the published configs, or the local cache of the hub.

    Raises `EngineError` for a model without video support, `UserError` if its sizes are unknown.
    """
    from huggingface_hub import try_to_load_from_cache

    from p2r.data import check_model

    path = check_model(model)
    known = published_configs()
    if path in known:
        return read_sizes(known[path])
    file = Path(path) / "config.json"
    cached = None if file.is_file() else try_to_load_from_cache(path, "config.json")
    if isinstance(cached, str):
        check_model(Path(cached).parent)
        file = Path(cached)
    if not file.is_file():
        raise UserError(
            f"the sizes of model {model!r} are not on this machine: give a folder with its "
            f"config.json, or one of {', '.join(known)}"
        )
    return read_sizes(json.loads(file.read_text(encoding="utf-8")))


def count_text(model: str, questions: Sequence[Question], style: str) -> int:
    """Return the text tokens of the longest prompt, including the chat template.

    Uses the model's tokenizer if the model is a local folder. Otherwise estimates from characters.
    """
    longest = max((build_prompt(question, style) for question in questions), key=len)
    tokenizer = _load_tokenizer(model)
    if tokenizer is None:
        return CHAT_TOKENS + round(len(longest) / CHARACTERS_PER_TOKEN)
    return CHAT_TOKENS + len(tokenizer(longest)["input_ids"])


def _load_tokenizer(model: str) -> PreTrainedTokenizerBase | None:
    from p2r.data import resolve_model

    folder = Path(resolve_model(model))
    if not (folder / "tokenizer.json").is_file():
        return None
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))


def describe_batch(rl: RlSettings, update: str, micro_batches: int, where: str) -> str:
    """Describe a batch of rollouts, which serves `rl.updates` steps.

    `update`: the words for updates, for example "optimiser updates". `micro_batches`: their number
    in each update. `where`: the words for the devices, for example "on each GPU".
    """
    rollouts = rl.prompts_per_step * rl.group_size
    steps, each = ("each step", "") if rl.updates == 1 else (f"every {rl.updates} steps", "each ")
    return (
        f"{steps}: {rl.prompts_per_step} prompts × {rl.group_size} rollouts = {rollouts} rollouts, "
        f"{rl.updates} {update} ({each}{micro_batches} micro-batches of {rl.micro_batch} {where})"
    )


def describe_plan(plan: Plan) -> list[str]:
    """Describe a step in a few lines."""
    rl, load, video = plan.recipe.rl, plan.load, plan.recipe.video
    update = "optimiser update" if rl.updates == 1 else "optimiser updates"
    share = 100 * plan.trained / plan.parameters
    tuning = plan.recipe.tuning
    how = "all weights" if tuning.lora_rank is None else f"LoRA of rank {tuning.lora_rank}"
    frozen = ", vision tower frozen" if tuning.freeze_vision else ""
    where = "on 1 GPU" if load.gpus == 1 else f"on {load.gpus} GPUs ({load.sharding})"
    return [
        f"recipe {plan.recipe.name}: {plan.model} {where}, credit {rl.credit}, "
        f"judge {judge_of(plan.recipe)}, {rl.steps} steps",
        describe_batch(rl, update, plan.accumulation, "on each GPU"),
        f"tokens per prompt: at most {plan.vision_tokens:,} of video ({video.train_frames} frames "
        f"of {video.train_pixels:,} pixels; {plan.wide_tokens:,} for 16:9) + about "
        f"{plan.text_tokens:,} of text; per response: at most {rl.max_tokens:,}",
        f"trained: {how}{frozen}: {plan.trained:,} of {plan.parameters:,} parameters "
        f"({share:.1f} %)",
    ]


def describe_fit(plan: Plan) -> str:
    """Return one line that tells which cards have enough memory."""
    share, sleeps = plan.recipe.vllm.rollout_memory, plan.recipe.vllm.sleep
    answers = [
        f"{card} GB: {'yes' if fits(plan.memory, card, share, sleeps) else 'no'}" for card in CARDS
    ]
    peak = peak_memory(plan.memory, sleeps) / GIB
    fit = f"fits a card of (a tenth left free) {', '.join(answers)}; peak about {peak:.1f} GiB"
    if "vllm" in plan.memory:
        when = "while it samples" if sleeps else "all the time"
        fit += f"; vLLM takes {share:.0%} of the card {when} (vllm.rollout_memory)"
    return fit
