"""Plans all stages of a recipe: memory, time and judge cost of each, before a GPU is rented.

`p2r doctor --recipe R --gpus N` prints the table. Times are arithmetic on the sizes of the model
and the card, and they are right to about ±40 %: no stage was measured on such a card. Each
assumption is a constant below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from p2r.errors import UserError
from p2r.families.sizes import (
    Architecture,
    count_parameters,
    most_moment_tokens,
    most_vision_tokens,
)
from p2r.files.loopback import is_local_url
from p2r.judges import asks_nothing, check_spec
from p2r.judges.estimate import CHARACTERS_PER_TOKEN, USUAL_REPLY
from p2r.judges.make import members_of
from p2r.judges.pictures import usual_tokens
from p2r.judges.prices import BATCH_DISCOUNT, Usage, find_price
from p2r.judges.prompt import build_judge_prompt
from p2r.rewards import CRITICS
from p2r.runs.recipe import Recipe
from p2r.training.memory import CARDS, GIB, USABLE, estimate_memory, fits, peak_memory
from p2r.training.plan import TYPICAL, Plan, count_text, plan_rl, read_architecture
from p2r.training.rl_checks import judge_of

ERROR = 0.4  # of every time
# Dense bfloat16 TFLOP/s and memory GB/s of the cards: RTX 3090 (24 GB), A100 (80 GB).
SPEEDS = {24: (71e12, 936e9), 80: (312e12, 2039e9)}
TRAINING_SHARE = 0.35  # of the TFLOP/s, in training
READING_SHARE = 0.4  # of the TFLOP/s, when prompts are read
WRITING_SHARE = 0.6  # of the memory speed, when tokens are written
TRANSFORMERS_TOKEN = 0.045  # seconds per token of a batch with transformers, at least
STEP_SECONDS = 5.0  # of an RL step: decoding clips, verdicts, new weights for vLLM
JUDGE_SECONDS = 3.0  # of one call to a judge behind a server
VLLM_WORK = 3 * GIB  # vLLM's activations and graphs

RESPONSE_TOKENS = 500  # of a typical response: observation, think, answer
OBSERVATION = "The person in the red coat opens the door of the car, looks around. " * 12
QUESTIONS = 260_000  # of Video-R1-260k, used by the paper
KEPT = 162_062 / 260_000  # share of traces that pass the paper's filter
EVALUATED = 21_000  # questions of the seven benchmarks


@dataclass(frozen=True)
class StageBudget:
    """The needs of one stage.

    `peak` is the memory of each of its `gpus` in bytes (0: it needs no GPU) and `cards` the cards
    in GiB that have enough. `seconds` is the estimated time. `calls` are the most calls to judges
    and `dollars` their cost; None if the price of a model is not known.
    """

    stage: str
    what: str
    gpus: int
    peak: int
    cards: tuple[int, ...]
    seconds: float
    calls: int = 0
    dollars: float | None = 0.0


@dataclass(frozen=True)
class Budget:
    """All stages of a recipe on `gpus` cards of `card` GiB, with the plan of the RL step."""

    card: int
    gpus: int
    rl: Plan
    stages: tuple[StageBudget, ...]


@dataclass(frozen=True)
class _Writing:
    """The work of a model that answers questions."""

    model: str
    engine: str
    questions: int
    prompt: int
    longest: int
    most_written: int
    batch: int


def plan_stages(
    recipe: Recipe, gpus: int = 1, sharding: Any = None, card: int | None = None
) -> Budget:
    """Plan generation, filter, SFT, RL and evaluation of a recipe on `gpus` GPUs.

    `card`: GiB of each GPU (default: the smallest card on which all stages fit, else the largest).
    Raises `UserError` and `EngineError`.
    """
    if card is not None and card not in SPEEDS:
        raise UserError(f"no card of {card} GB is known: use one of {', '.join(map(str, SPEEDS))}")
    rl = plan_rl(recipe, gpus, sharding)
    for candidate in (card,) if card else CARDS:
        stages = tuple(_stages(recipe, rl, candidate))
        if all(not stage.gpus or candidate in stage.cards for stage in stages):
            break
    return Budget(candidate, gpus, rl, stages)


def _stages(recipe: Recipe, rl: Plan, card: int) -> list[StageBudget]:
    questions = recipe.generate.questions or recipe.playground.train or QUESTIONS
    evaluated = recipe.eval.questions or recipe.playground.test or EVALUATED
    traces = questions * recipe.generate.samples
    made, video = recipe.generate, recipe.video
    teacher = _writing(
        recipe, recipe.models.teacher, made, traces, video.train_frames, video.train_pixels
    )
    student = _writing(
        recipe, recipe.models.base, recipe.eval, evaluated, video.eval_frames, video.eval_pixels
    )
    return [
        _write("generate", recipe, teacher, rl.load.gpus, card),
        _filter(recipe, traces),
        _sft(recipe, rl, round(KEPT * traces), card),
        _rl(recipe, rl, card),
        _write("eval", recipe, student, rl.load.gpus, card, recipe.eval.judge),
    ]


def _writing(
    recipe: Recipe, model: str, settings: Any, questions: int, frames: int, pixels: int
) -> _Writing:
    sizes = read_architecture(model)
    text = count_text(model, [TYPICAL], recipe.style) + most_moment_tokens(sizes, frames)
    most = most_vision_tokens(sizes, frames, pixels)
    return _Writing(
        model=model,
        engine=settings.engine,
        questions=questions,
        prompt=most + text,
        longest=most + text + settings.max_tokens,
        most_written=settings.max_tokens,
        batch=settings.batch_size,
    )


# ---- stages that write responses


def _write(
    stage: str, recipe: Recipe, work: _Writing, gpus: int, card: int, judge: Any = None
) -> StageBudget:
    """Plan generation or evaluation: memory of the model and its cache, and the time to write."""
    calls, dollars = (
        (work.questions, judge_cost(recipe, judge, work.questions)) if judge else (0, 0)
    )
    if work.engine == "server":
        what = f"{work.model} at {recipe.server.base_url}"
        return StageBudget(stage, what, 0, 0, (), 0.0, calls, dollars)
    sizes = read_architecture(work.model)
    used = _sharing(recipe, sizes, gpus) if work.engine == "vllm" else 1
    wide = 2 if recipe.models.dtype == "bfloat16" else 4
    weights = wide * sum(count_parameters(sizes).values()) // used
    sequence = wide * work.longest * sizes.layers * 2 * sizes.kv // min(used, max(1, sizes.heads))
    rows = 1 if work.engine == "vllm" else work.batch
    peak = weights + rows * sequence + VLLM_WORK
    usable = recipe.vllm.memory if work.engine == "vllm" else USABLE
    cards = tuple(size for size in CARDS if peak <= usable * size * GIB)
    if work.engine == "vllm":  # it answers as many requests at once as its cache holds
        room = int((usable * card * GIB - weights - VLLM_WORK) // sequence)
        rows = max(1, min(recipe.vllm.max_sequences, room))
    written = min(RESPONSE_TOKENS, work.most_written)
    seconds = _writing_seconds(sizes, work.questions, work.prompt, written, rows, used, card, wide)
    if work.engine == "transformers":
        batches = work.questions / rows
        seconds = max(seconds, batches * work.most_written * TRANSFORMERS_TOKEN)
    what = f"{work.questions:,} questions, {work.model}, {work.engine}"
    return StageBudget(stage, what, used, peak, cards, seconds, calls, dollars)


def _sharing(recipe: Recipe, sizes: Architecture, gpus: int) -> int:
    from p2r.engines.vllm_runtime import share_of_heads

    wanted = recipe.vllm.tensor_parallel
    return wanted if isinstance(wanted, int) else share_of_heads(gpus, sizes.heads)


def _writing_seconds(
    sizes: Architecture,
    questions: float,
    prompt: int,
    written: int,
    rows: float,
    gpus: int,
    card: int,
    wide: int,
) -> float:
    """Return the seconds to read all prompts and to write all responses, `rows` at once."""
    flops, speed = SPEEDS[card]
    parameters = sum(count_parameters(sizes).values())
    reading = 2 * parameters * prompt * questions / (gpus * flops * READING_SHARE)
    cache = wide * (prompt + written / 2) * sizes.layers * 2 * sizes.kv
    per_token = (wide * parameters + rows * cache) / (gpus * speed * WRITING_SHARE)
    return reading + questions / rows * written * per_token


# ---- filter, SFT and RL


def _filter(recipe: Recipe, traces: int) -> StageBudget:
    """Plan the filter: at most one call to the judge for each trace."""
    judge, judging = recipe.filter.judge, recipe.judging
    dollars = judge_cost(recipe, judge, traces, batch=judging.batch)
    remote = any(_model_of(recipe, member) for member in members_of(judge))
    seconds = JUDGE_SECONDS * traces / judging.concurrency if remote else 0.0
    return StageBudget(
        "filter", f"{traces:,} traces, judge {judge}", 0, 0, (), seconds, traces, dollars
    )


def _sft(recipe: Recipe, rl: Plan, examples: int, card: int) -> StageBudget:
    """Plan SFT: its memory is that of an update without a reference model and without rollouts."""
    sft, sizes = recipe.sft, read_architecture(recipe.models.base)
    load = rl.load
    prompt = rl.vision_tokens + rl.text_tokens
    work = replace(
        load,
        reference=False,
        micro_batch=sft.batch_size,
        rollouts=sft.batch_size,
        prompts=sft.batch_size,
        prompt_tokens=prompt,
        completion_tokens=recipe.generate.max_tokens,
        sampler="vllm-server",
        copies=1,
    )
    memory = estimate_memory(sizes, work)
    batch = sft.global_batch or sft.batch_size * sft.accumulation * load.gpus
    if sft.max_steps > 0:
        examples = min(examples, sft.max_steps * batch)
    else:
        examples = round(examples * sft.epochs)
    tokens = examples * (prompt + min(RESPONSE_TOKENS, recipe.generate.max_tokens))
    cards = tuple(size for size in CARDS if fits(memory, size))
    seconds = tokens * _flops_of_update(rl) / (load.gpus * SPEEDS[card][0] * TRAINING_SHARE)
    what = f"{examples:,} examples, {recipe.models.base}, batch {batch}"
    return StageBudget("sft", what, load.gpus, peak_memory(memory), cards, seconds)


def _flops_of_update(rl: Plan) -> float:
    """Return the operations of forward and backward pass per token: 2P forward and 4P backward.

    Gradient checkpointing adds a forward pass, 2P. Adapters save the gradients of the weights, 2P.
    """
    factor = 6 + (2 if rl.load.recompute else 0) - (2 if rl.load.lora_rank else 0)
    return factor * rl.parameters


def _rl(recipe: Recipe, plan: Plan, card: int) -> StageBudget:
    """Plan RL: sampling, the passes of policy and reference, and the rest of a step."""
    rl, load = recipe.rl, plan.load
    rollouts = rl.prompts_per_step * rl.group_size
    sizes = read_architecture(plan.model)
    prompt = plan.vision_tokens + plan.text_tokens
    # T-GRPO samples a second group, half as large, after the first one.
    groups = [load.rollouts, load.rollouts / 2] if rl.credit == "temporal" else [load.rollouts]
    sampling = 0.0
    for rows in groups:
        writing = _writing_seconds(sizes, rows, prompt, rl.max_tokens, rows, 1, card, load.wide)
        slowest = rl.max_tokens * TRANSFORMERS_TOKEN if rl.rollouts == "transformers" else 0.0
        sampling += max(writing, slowest)
    tokens = rollouts * (prompt + min(RESPONSE_TOKENS, rl.max_tokens))
    # PAPO reads each response twice. Before the first update of a batch of rollouts, the reference,
    # a critic and the ratio of later updates need a forward pass each.
    before = load.reference + (rl.credit in CRITICS) + (rl.updates > 1)
    passes = rl.updates * load.copies * _flops_of_update(plan) + 2 * plan.parameters * before
    training = tokens * passes / (load.gpus * SPEEDS[card][0] * TRAINING_SHARE)
    batches = rl.steps // rl.updates
    working = max(sampling, training) if rl.overlap else sampling + training
    seconds = batches * (working + STEP_SECONDS)
    judge = judge_of(recipe)
    calls = 0 if asks_nothing(judge) else batches * rollouts
    share, sleeps = recipe.vllm.rollout_memory, recipe.vllm.sleep
    cards = tuple(size for size in CARDS if fits(plan.memory, size, share, sleeps))
    peak = peak_memory(plan.memory, sleeps)
    what = f"{rl.steps:,} steps, {plan.model}, {rl.rollouts}"
    dollars = judge_cost(recipe, judge, calls)
    return StageBudget("rl", what, load.gpus, peak, cards, seconds, calls, dollars)


# ---- judges


def judge_cost(recipe: Recipe, judge: Any, calls: int, batch: bool = False) -> float | None:
    """Return the US dollars for `calls` observations of usual length; None if no price is known.

    A judge without a server and a server on this machine cost nothing.
    """
    check_spec(judge)
    prompt = build_judge_prompt(TYPICAL, OBSERVATION, recipe.judging.prompt)
    text = len(prompt) / CHARACTERS_PER_TOKEN
    total = 0.0
    for member in members_of(judge):
        model = _model_of(recipe, member)
        if model is None or is_local_url(str(member.get("url", ""))):
            continue
        price = find_price(model, recipe.judging.prices)
        if price is None:
            return None
        usage = Usage(round(text + usual_tokens(member)), USUAL_REPLY)
        cost = price.cost(usage) * calls
        total += cost * (BATCH_DISCOUNT if batch and member["kind"] == "claude" else 1)
    return total


def _model_of(recipe: Recipe, member: dict[str, Any]) -> str | None:
    """Return the model that a judge asks; None for a judge without a server."""
    if member["kind"] in ("claude", "vision"):
        return member.get("model", recipe.judging.model)
    return member.get("model") if "url" in member else None


# ---- text


def describe_time(seconds: float) -> str:
    """Return a time with its error, for example "9–21 h"."""
    low, high = seconds * (1 - ERROR), seconds * (1 + ERROR)
    if high < 60:
        return "under 1 min"
    if high < 90 * 60:
        return f"{low / 60:.0f}–{high / 60:.0f} min"
    digits = 1 if high < 10 * 3600 else 0
    return f"{low / 3600:.{digits}f}–{high / 3600:.{digits}f} h"
