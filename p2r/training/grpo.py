"""The RL stage: PA-GRPO (credit=process), GRPO (credit=outcome) and others from the SFT model.

One step of the training is in `p2r.training.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from trl import GRPOConfig

from p2r import data
from p2r.errors import PreflightError, TrainingError
from p2r.families import family_of_processor
from p2r.files.user_code import source_of, stamp_of
from p2r.judges import Judge
from p2r.records import Case, Question
from p2r.runs import finished_model, model_fingerprint, use_threads, write_text
from p2r.runs.ownership import owned
from p2r.runs.recipe import Recipe, RlSettings
from p2r.template import banned_token_ids, build_prompt, prompt_hash
from p2r.training.finish import save_final
from p2r.training.media import ReadAhead, ReadNextStep, shared_frames
from p2r.training.overlap import Overlap
from p2r.training.plan import describe_batch
from p2r.training.preflight import Preflight, PromptLengths
from p2r.training.rl_checks import check_rl, divide_rollouts, find_no_reward
from p2r.training.stage import (
    StepLog,
    append_lines,
    hash_lines,
    open_stage,
    raised_together,
    record_skipped,
    show_progress,
    step_of,
    trackers,
    workers,
)
from p2r.training.step import FramesOf
from p2r.training.substitutes import Substitutes, find_fault
from p2r.training.trainer import ProcessAwareGRPOTrainer
from p2r.training.tuning import (
    freeze_vision,
    keep_adapters_float32,
    load_arguments,
    lora_config,
    shared_arguments,
    training_dtype,
)
from p2r.training.validation import Validation, hold_out
from p2r.training.vision_once import feature_cache
from p2r.video import FrameCache
from p2r.video.decoders import WORKERS

OPENED = 128  # questions whose videos are opened before the first step


def train_grpo(
    recipe: Recipe,
    questions: Sequence[Question],
    start_model: str | Path,
    out: str | Path,
    *,
    judge: Judge | None,
    data_root: str | Path,
    frames: FrameCache | None = None,
    run: str = "",
) -> Path:
    """Train `start_model` by RL with the settings `recipe.rl`; return `out/model`.

    `start_model` is also the reference of the KL term. Writes `preflight.json` (see
    `p2r.training.preflight`), `metrics.jsonl` (one line per step), `rollouts.jsonl` (every rollout
    as a `Case`) and `skipped.jsonl`. With `rl.validate_every` it also writes `validation.jsonl`,
    `best.json` and the model `best`, and does not train on the held-out questions. After a kill,
    the same call resumes from the last complete checkpoint. A finished stage returns at once.
    `judge` may be None if the training does not use the perception reward (credit=outcome, or
    rewards without perception). Raises `UserError`, `TrainingError` and `EngineError` before it
    loads any weight.
    """
    out = Path(out)
    if model := finished_model(out):
        return model
    rl = recipe.rl
    used = check_rl(recipe)
    if judge is None and "perception" in used:
        raise TrainingError(
            f"credit={rl.credit} needs a judge for the perception reward: set rl.judge"
        )
    data.check_model(start_model)
    divide_rollouts(rl, workers().num_processes)
    if rl.rollouts == "vllm":
        from p2r.engines.vllm_runtime import check_vllm

        check_vllm()
    out.mkdir(parents=True, exist_ok=True)
    use_threads(recipe)
    cache = frames or shared_frames(recipe.video)
    reading = partial(
        data.read_frames, root=data_root, cache=cache, **data.train_settings(recipe.video)
    )
    frames_of = cast(FramesOf, reading)  # of one medium: `find_no_reward` refuses several
    processor = data.load_processor(start_model)
    lengths = PromptLengths(frames_of, processor, recipe.style)
    faults = partial(find_fault, style=recipe.style, processor=processor)
    held_out: Sequence[Question] = ()
    if rl.validate_every:
        questions, held_out = hold_out(
            questions, rl.validate_questions, recipe.seed, partial(faults, frames_of=frames_of)
        )
    find = partial(faults, frames_of=lengths)
    rows, skipped = plan_steps(questions, rl, recipe.seed, find, OPENED)
    check_same_plan([*held_out, *rows], skipped)
    if workers().is_main_process:
        record_skipped(out, skipped)
    arguments = grpo_arguments(recipe, processor, out / "checkpoints")
    made = {
        "start": model_fingerprint(data.resolve_model(start_model)),
        "prompt": prompt_hash(recipe.style),
        "questions": hash_lines(question.model_dump_json() for question in rows),
        "rl": rl.model_dump(mode="json", exclude={"reward"}),  # `made["reward"]` is its source
        "tuning": recipe.tuning.model_dump(mode="json"),
        "video": owned("rl", "video", recipe.video.model_dump(mode="json")),
        "seed": recipe.seed,
    }
    if rl.reward is not None:
        made["reward"] = stamp_of(rl.reward)
    logs = {"metrics.jsonl": "step", "validation.jsonl": "step", "rollouts.jsonl": "trace.step"}
    checkpoint = open_stage(out, made, logs)
    if rl.reward is not None and workers().is_main_process:
        write_text(out / "reward.py", source_of(rl.reward))  # what the rewards of this run mean
    trainer = ProcessAwareGRPOTrainer(
        data.resolve_model(start_model),
        questions={question.id: question for question in (*rows, *held_out)},
        frames_of=frames_of,
        judge=judge,
        settings=rl,
        style=recipe.style,
        on_rollouts=partial(_append_cases, out / "rollouts.jsonl"),
        trace_fields={
            "model": str(start_model),
            "run": run,
            "stage": "rl",
            "sampling": {
                "temperature": rl.temperature,
                "top_p": rl.top_p,
                "max_tokens": rl.max_tokens,
                "seed": recipe.seed,
                "prompt": prompt_hash(recipe.style),
            },
        },
        args=arguments,
        train_dataset=Dataset.from_list(
            [{"prompt": build_prompt(q, recipe.style), "question": q.id} for q in rows]
        ),
        processing_class=processor,
        peft_config=lora_config(recipe.tuning, family_of_processor(processor)),
        callbacks=[
            StepLog(out / "metrics.jsonl"),
            *trackers(recipe.report_to, out, step_of(checkpoint), workers().is_main_process),
        ],
    )
    if recipe.tuning.quantise is not None:
        keep_adapters_float32(trainer.model)
    trainer.substitutes = Substitutes(
        questions,
        recipe.seed,
        partial(faults, frames_of=frames_of),
        lambda question, reason: record_skipped(out, [(question, reason)]),
    )
    ahead = ReadAhead(frames_of)
    batches = batches_of(rows, rl)
    # With overlap, a step needs the frames of the next batch already.
    trainer.add_callback(ReadNextStep(ahead, batches, rl.updates, 2 if rl.overlap else 1))
    if recipe.tuning.freeze_vision:
        freeze_vision(trainer.model)
        trainer.vision_once.cache = feature_cache(recipe.video)
    if rl.rollouts != "transformers":
        from p2r.training.vllm_rollouts import attach_vllm

        attach_vllm(trainer, recipe)
    if rl.overlap:
        trainer.overlap = Overlap(trainer, batches)
    if trainer.is_world_process_zero():
        print(describe(arguments, rl), flush=True)
    if rl.preflight and checkpoint is None:
        trainer.add_callback(Preflight(trainer, rows, lengths.of, out))
    if held_out:
        trainer.add_callback(Validation(trainer, held_out, rl.validate_every, out))
    show_progress(trainer, "rl", "reward", "perception/accuracy", "reasoning/accuracy", "kl")
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except PreflightError:  # nothing is trained yet: the next start may use other settings
        if trainer.is_world_process_zero():
            (out / "made.json").unlink()
        raise
    finally:
        ahead.close()
        if rl.rollouts != "transformers":
            trainer.vllm_generation.close()
    return save_final(trainer, processor, out, recipe.keep)


def plan_steps(
    questions: Sequence[Question],
    rl: RlSettings,
    seed: int,
    find_fault: Callable[[Question], str | None],
    opened: int = OPENED,
) -> tuple[list[Question], list[tuple[Question, str]]]:
    """Return the questions of all steps, `prompts_per_step` each, and skipped ones with the reason.

    The questions are used in passes. In each pass every question is used once, in random order, and
    never twice in a step. `find_fault` opens the video of a question and returns why RL cannot ask
    it, or None. Such a question is skipped. The videos of the first questions are opened, several
    at a time, until `opened` can be used. `Substitutes` opens the others when their step comes.
    Raises `TrainingError` if too few are left.
    """
    if len({question.id for question in questions}) < len(questions):
        raise TrainingError("two questions have the same id: ids must be unique")
    generator = torch.Generator().manual_seed(seed)
    needed = rl.steps // rl.updates * rl.prompts_per_step
    kept: list[Question] = []
    skipped: list[tuple[Question, str]] = []
    order = torch.randperm(len(questions), generator=generator).tolist()
    with ThreadPoolExecutor(WORKERS) as threads:
        while order and len(kept) < needed:
            count = min(needed, opened) - len(kept)
            if count > 0:
                part = [questions[index] for index in order[:count]]
                faults = list(threads.map(find_fault, part))
            else:
                part = [questions[index] for index in order[: needed - len(kept)]]
                faults = [find_no_reward(question) for question in part]
            order = order[len(part) :]
            for question, fault in zip(part, faults, strict=True):
                if fault is None:
                    kept.append(question)
                else:
                    skipped.append((question, fault))
    per_pass = len(kept) // rl.prompts_per_step * rl.prompts_per_step
    if not per_pass:
        raise TrainingError(
            f"{len(kept)} of {len(questions)} questions can be used but a step takes "
            f"{rl.prompts_per_step}: {skipped[0][1] if skipped else 'give more questions'}"
        )
    rows = kept[:per_pass]
    while len(rows) < needed:
        order = torch.randperm(len(kept), generator=generator).tolist()[:per_pass]
        rows += [kept[index] for index in order]
    return rows[:needed], skipped


def check_same_plan(asked: Sequence[Question], skipped: Sequence[tuple[Question, str]]) -> None:
    """Raise `TrainingError` on all workers if they have planned different questions.

    Each worker opens the first videos itself. If a video can be read on some workers only, they
    would answer different questions in one group.
    """
    reasons = {question.id: reason for question, reason in skipped}
    found = gather_object([(hash_lines(question.id for question in asked), reasons)])
    if len({plan for plan, _ in found}) == 1:
        return
    everywhere = set.intersection(*(set(named) for _, named in found))
    apart = [
        f"worker {rank} cannot read {name!r} ({reason})"
        for rank, (_, named) in enumerate(found)
        for name, reason in named.items()
        if name not in everywhere
    ]
    raise raised_together(
        TrainingError(
            "the workers cannot read the same media: "
            f"{'; '.join(apart[:3]) or 'their held-out questions differ'}. Give all workers the "
            "same data folder and start again, with a longer video.timeout if reading took too long"
        )
    )


def batches_of(rows: Sequence[Question], rl: RlSettings) -> list[list[Question]]:
    """Return the questions of this worker's rollouts in every batch, one for each rollout."""
    state, prompts = workers(), rl.prompts_per_step
    each = prompts * rl.group_size // state.num_processes  # rollouts of a worker
    first = state.process_index * each
    places = [row // rl.group_size for row in range(first, first + each)]
    return [[rows[start + place] for place in places] for start in range(0, len(rows), prompts)]


def grpo_arguments(recipe: Recipe, processor: Any, checkpoints: Path) -> GRPOConfig:
    """Make TRL's `GRPOConfig` from the recipe, with the paper's loss instead of TRL's defaults."""
    rl = recipe.rl
    return GRPOConfig(
        **shared_arguments(recipe, checkpoints, validates=bool(rl.validate_every)),
        max_steps=rl.steps,
        save_steps=rl.save_steps,
        per_device_train_batch_size=rl.micro_batch,
        gradient_accumulation_steps=divide_rollouts(rl, workers().num_processes),
        num_generations=rl.group_size,
        disable_dropout=True,  # samples and log-probs are of the same weights
        shuffle_dataset=False,  # `plan_steps` sets the order, also for a resumed run
        max_completion_length=rl.max_tokens,
        temperature=rl.temperature,
        top_p=rl.top_p,
        # A sampled vision token has no vision features, so the next forward pass would fail.
        generation_kwargs={"suppress_tokens": banned_token_ids(processor.tokenizer)},
        learning_rate=rl.learning_rate,
        # Without warm-up steps, both constant schedules of transformers are the same.
        lr_scheduler_type="constant_with_warmup" if rl.scheduler == "constant" else rl.scheduler,
        warmup_steps=int(rl.warmup_ratio * rl.steps + 1e-9),
        weight_decay=rl.weight_decay,
        max_grad_norm=rl.max_grad_norm,
        beta=rl.beta,
        epsilon=rl.epsilon,
        epsilon_high=rl.epsilon_high,
        num_iterations=rl.updates,
        importance_sampling_level=rl.ratio,
        scale_rewards=rl.scale_rewards,
        # The loss is `p2r.training.step.loss`. These settings describe the same loss in TRL's
        # terms. With "grpo": the mean over the tokens of each response, then over responses
        # (normalise=sequence), with the plain k3 estimator of the KL term.
        loss_type=rl.loss,
        use_bias_correction_kl=False,
        mask_truncated_completions=False,  # a truncated response loses its format reward instead
        model_init_kwargs={
            "dtype": training_dtype(recipe),
            "use_safetensors": True,
            **load_arguments(recipe),
        },
    )


def describe(arguments: GRPOConfig, rl: RlSettings) -> str:
    """Return one line about the size of a step."""
    where = f"on {arguments.world_size} worker(s)"
    batch = describe_batch(rl, "update(s)", arguments.gradient_accumulation_steps, where)
    return (
        f"{batch}; {rl.steps} steps, credit={rl.credit}, normalise={rl.normalise}, "
        f"rewards={'+'.join(rl.rewards)}"
    )


def _append_cases(path: Path, cases: Sequence[Case]) -> None:
    append_lines(path, (case.model_dump(mode="json") for case in cases))
