"""The SFT stage: TRL's `SFTTrainer` on filtered traces, with a collator for video.

The loss covers the response only. Videos are decoded when a batch needs them. An example is skipped
if its video cannot be read or if it is too long; `skipped.jsonl` lists the reason, and the next
usable example takes its place in the batch. No example is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import AutoConfig
from trl import SFTConfig, SFTTrainer

from p2r import data
from p2r.errors import DataError, TrainingError, UserError
from p2r.families import family_of_model, read_sizes
from p2r.families.sizes import Architecture, most_moment_tokens, most_vision_tokens
from p2r.records import Case
from p2r.runs import finished_model, model_fingerprint, use_threads
from p2r.runs.ownership import owned
from p2r.runs.recipe import Recipe, VideoSettings
from p2r.template import build_prompt, render, style_name
from p2r.training.finish import save_final
from p2r.training.media import ReadAhead, shared_frames
from p2r.training.packing import accept_packed_rows
from p2r.training.plan import accumulation
from p2r.training.sft_batches import (
    LengthGroups,
    TraceCollator,
    fill_bins,
    pack_examples,
    set_epoch,
    split_bins,
)
from p2r.training.stage import (
    ExactResume,
    StepLog,
    hash_lines,
    open_stage,
    record_skipped,
    show_progress,
    step_of,
    trackers,
    workers,
)
from p2r.training.tuning import (
    freeze_vision,
    keep_adapters_float32,
    load_arguments,
    lora_config,
    need_library,
    shared_arguments,
    training_dtype,
)
from p2r.training.vision_once import VisionOnce, feature_cache
from p2r.training.vision_pass import unify_vision_passes
from p2r.training.vision_windows import batch_windows


class TraceTrainer(ExactResume, SFTTrainer):
    """TRL's SFT trainer; the order of examples is the same after a resume.

    The loss of an update is the mean over all its response tokens, however they are divided into
    micro-batches and workers. With a token budget, the data loader gives all examples of an update
    at once, and `training_step` divides them.
    """

    token_budget: int | None = None
    announce: Callable[[int], None] | None = None  # gets each example before its batch

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        # transformers says that these models cannot take the number of tokens of an update, so it
        # would average the means of micro-batches. TRL computes the loss itself and can take it.
        self.model_accepts_loss_kwargs = True

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        """Serves `Trainer.get_train_dataloader`."""
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        each, workers = self.args.train_batch_size, self.args.world_size
        return LengthGroups(
            (train_dataset or self.train_dataset)["length"],
            each * self.args.gradient_accumulation_steps * workers,
            self.args.seed,
            self.announce,
            # accelerate gives the batches to the workers in turns.
            mine=lambda place: place // each % workers == self.args.process_index,
        )

    def _run_epoch(self, **settings: Any) -> Any:
        """Serves `Trainer.train`. transformers does not reach the sampler after a resume.

        With several workers, accelerate wraps the sampler once more to skip the trained batches.
        """
        set_epoch(settings["train_dataloader"], settings["epoch"])
        return super()._run_epoch(**settings)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Serves `Trainer.train`: forward and backward passes of one batch, or of an update."""
        if self.token_budget is None:
            return super().training_step(model, inputs, num_items_in_batch)
        examples, state = inputs["examples"], self.accelerator.gradient_state
        bins = fill_bins([len(example["input_ids"]) for example in examples], self.token_budget)
        # Workers that share weights or gradients make the same number of passes.
        counts = self.accelerator.gather(torch.tensor([len(bins)], device=self.args.device))
        bins = split_bins(bins, int(counts.max()))
        losses = []
        for number, places in enumerate(bins, start=1):
            packed = pack_examples(
                self.accelerator.unwrap_model(model), [examples[place] for place in places]
            )
            state._set_sync_gradients(number == len(bins))
            waiting = number < len(bins) and not self.is_deepspeed_enabled
            with self.accelerator.no_sync(model) if waiting else nullcontext():
                losses.append(super().training_step(model, packed, num_items_in_batch))
        return torch.stack(losses).sum()


def train_sft(
    recipe: Recipe,
    cases: Sequence[Case],
    out: str | Path,
    *,
    data_root: str | Path,
) -> Path:
    """Train the recipe's base model on the traces of `cases`; return `out/model`.

    With `recipe.sft.target` "process" the model learns all three segments; with "agnostic" it
    learns think and answer, under a prompt that asks for these two. Writes `metrics.jsonl` (one
    line per step) and `skipped.jsonl`. After a kill, the same call resumes from the last complete
    checkpoint. A finished stage returns at once. Raises `TrainingError` and `EngineError` before it
    loads any weight.
    """
    out = Path(out)
    if model := finished_model(out):
        return model
    out.mkdir(parents=True, exist_ok=True)
    use_threads(recipe)
    base = recipe.models.base
    processor = data.load_processor(base)
    config = AutoConfig.from_pretrained(data.resolve_model(base))
    process_aware = recipe.sft.target == "process"
    usable = [case for case in cases if _has_segments(case, process_aware)]
    lacking = [case.question for case in cases if not _has_segments(case, process_aware)]
    record_skipped(out, [(question, "the trace has no text for a segment") for question in lacking])
    collator = TraceCollator(
        processor,
        [case.question for case in usable],
        [target(case, process_aware) for case in usable],
        partial(
            data.read_frames,
            root=data_root,
            cache=shared_frames(recipe.video),
            **data.train_settings(recipe.video),
        ),
        recipe.style,
        config.text_config.max_position_embeddings,
        lambda question, reason: record_skipped(out, [(question, reason)]),
    )
    if not any(collator.encode(index) for index in range(len(usable))):
        raise TrainingError(
            f"none of {len(cases)} cases can be used for training: {len(lacking)} have no text for "
            f"a segment of the trace; see all reasons in {out / 'skipped.jsonl'}"
        )
    made = {
        "base": model_fingerprint(data.resolve_model(base)),
        "style": style_name(collator.style),
        "examples": hash_lines(
            question.model_dump_json() + response
            for question, response in zip(collator.questions, collator.responses, strict=True)
        ),
        "sft": recipe.sft.model_dump(mode="json"),
        "tuning": recipe.tuning.model_dump(mode="json"),
        "video": owned("sft", "video", recipe.video.model_dump(mode="json")),
        "seed": recipe.seed,
    }
    checkpoint = open_stage(out, made, {"metrics.jsonl": "step"})
    arguments = sft_arguments(
        recipe, out / "checkpoints"
    )  # before the model, for ZeRO-3 to shard it
    model = data.load_model(base, training_dtype(recipe), load_arguments(recipe)).train()
    if recipe.tuning.freeze_vision:
        freeze_vision(model)
    lengths = estimate_lengths(collator, read_sizes(config.to_dict()), recipe.video)
    trainer = TraceTrainer(
        model,
        args=arguments,
        data_collator=collator,
        train_dataset=Dataset.from_dict({"example": list(range(len(usable))), "length": lengths}),
        processing_class=processor,
        peft_config=lora_config(recipe.tuning, family_of_model(model)),
        callbacks=[
            StepLog(out / "metrics.jsonl"),
            *trackers(recipe.report_to, out, step_of(checkpoint), workers().is_main_process),
        ],
    )
    if recipe.tuning.quantise is not None:
        keep_adapters_float32(trainer.model)
    if recipe.tuning.freeze_vision:
        vision_once = VisionOnce(trainer.accelerator, feature_cache(recipe.video))
        collator.see = partial(vision_once.see, trainer.model, trained=True)
    if recipe.sft.token_budget is not None:
        trainer.token_budget, collator.packed = recipe.sft.token_budget, True
        accept_packed_rows(trainer.model)
    batch_windows(trainer.model)
    if workers().num_processes > 1:
        unify_vision_passes(trainer.model)
    show_progress(trainer, "sft", "loss", "mean_token_accuracy")
    ahead = ReadAhead(collator.frames_of)
    trainer.announce = lambda index: ahead.submit(collator.questions[index])
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        ahead.close()
    return save_final(trainer, processor, out, recipe.keep)


def sft_arguments(recipe: Recipe, checkpoints: Path) -> SFTConfig:
    """Make TRL's `SFTConfig` from the recipe."""
    sft = recipe.sft
    if sft.liger:
        need_library("liger_kernel", "sft.liger")
        if sft.token_budget is not None:
            raise UserError(
                "Liger's loss takes no packed rows: set sft.liger=false, or unset sft.token_budget"
            )
    passes = accumulation(sft, workers().num_processes)
    # With a token budget the trainer divides all examples of an update itself.
    together = 1 if sft.token_budget is None else passes
    return SFTConfig(
        **shared_arguments(recipe, checkpoints),
        num_train_epochs=sft.epochs,
        max_steps=sft.max_steps,
        save_steps=sft.save_steps,
        per_device_train_batch_size=sft.batch_size * together,
        gradient_accumulation_steps=passes // together,
        learning_rate=sft.learning_rate,
        warmup_steps=sft.warmup_steps,
        max_grad_norm=sft.max_grad_norm,
        weight_decay=sft.weight_decay,
        train_sampling_strategy="group_by_length" if sft.group_by_length else "random",
        use_liger_kernel=sft.liger,
        max_length=None,  # the collator skips examples that are too long; nothing is cut
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def estimate_lengths(
    collator: TraceCollator, model: Architecture, video: VideoSettings
) -> list[int]:
    """Estimate the tokens of each example without decoding any media.

    Text is counted. Media are assumed to be as large as the recipe allows. An example that makes no
    prompt has no text tokens; the collator skips it.
    """
    texts, seen = [], []
    for question, response in zip(collator.questions, collator.responses, strict=True):
        try:
            texts.append(build_prompt(question, collator.style) + response)
        except DataError:
            texts.append("")
        seen.append(0)
        for medium in question.media:
            image = medium.data_type == "image"
            pixels = (image and video.image_pixels) or video.train_pixels
            seen[-1] += most_vision_tokens(model, 1 if image else video.train_frames, pixels)
            seen[-1] += 0 if image else most_moment_tokens(model, video.train_frames)
    counts = collator.processor.tokenizer(texts)["input_ids"]
    return [len(ids) + vision for ids, vision in zip(counts, seen, strict=True)]


def _has_segments(case: Case, process_aware: bool) -> bool:
    trace = case.trace
    return bool(trace.think and trace.answer and (trace.observation or not process_aware))


def target(case: Case, process_aware: bool = True) -> str:
    """Return the response that the model learns for a case, which must have the segments."""
    trace = case.trace
    assert trace.think is not None and trace.answer is not None
    return render(trace.observation if process_aware else None, trace.think, trace.answer)
