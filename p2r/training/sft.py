"""SFT on filtered traces: TRL's `SFTTrainer` with our video collator.

The loss is on the response only. Videos are decoded when a batch needs them; an example whose video
cannot be read, or that is too long, is left out of its batch and listed with the reason: never cut,
never replaced by another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import AutoConfig
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTConfig, SFTTrainer

from p2r import data
from p2r.errors import DataError, TrainingError
from p2r.records import Case, Question
from p2r.runs import finished_model, model_fingerprint, use_threads
from p2r.runs.recipe import Recipe, VideoSettings
from p2r.template import build_prompt, render
from p2r.training.common import (
    ExactResume,
    StepLog,
    hash_lines,
    open_stage,
    record_skipped,
    save_final,
    shared_arguments,
    show_progress,
    step_of,
    training_dtype,
    training_processes,
)
from p2r.training.memory import Architecture, most_vision_tokens
from p2r.training.tracking import trackers
from p2r.training.tuning import freeze_vision, lora_config
from p2r.video import FrameCache, Frames


class TraceTrainer(ExactResume, SFTTrainer):
    """TRL's SFT trainer; batches of like length are the same ones in a resumed training."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        together = self.args.gradient_accumulation_steps * self.args.world_size
        return LengthGroups(
            (train_dataset or self.train_dataset)["length"],
            self.args.train_batch_size * together,
            self.args.seed,
        )


class LengthGroups(Sampler[int]):
    """Random order in which neighbours are of like length, by transformers' rule.

    transformers' own sampler draws from the global generator, whose state at the begin of an epoch
    is lost to a training that is resumed within it. The order here depends on seed and epoch alone.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = get_length_grouped_indices(list(self.lengths), self.batch_size, generator=generator)
        return iter(order)

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate when an epoch begins."""
        self.epoch = epoch


class TraceCollator:
    """Batches of training examples, by their place among `questions` and `responses`.

    What cannot be used is handed to `on_skip` with the reason, once. A batch of which nothing is
    left becomes one example without any label: its loss is 0.
    """

    def __init__(
        self,
        processor: Any,
        questions: Sequence[Question],
        responses: Sequence[str],
        frames_of: Callable[[Question], Frames | None],
        style: str,
        max_length: int | None,
        on_skip: Callable[[Question, str], None],
    ) -> None:
        self.processor = processor
        self.questions = questions
        self.responses = responses
        self.frames_of = frames_of
        self.style = style
        self.max_length = max_length
        self.on_skip = on_skip
        self._skipped: set[int] = set()

    def __call__(self, rows: Sequence[dict[str, int]]) -> data.Batch:
        examples = [example for row in rows if (example := self.encode(row["example"]))]
        return data.collate_examples(
            examples or [self._nothing()], self.processor.tokenizer.pad_token_id
        )

    def encode(self, index: int) -> data.Batch | None:
        """One unpadded example, None where it cannot be used."""
        question = self.questions[index]
        try:
            return data.encode_example(
                self.processor,
                question,
                self.frames_of(question),
                self.responses[index],
                self.style,
                self.max_length,
            )
        except DataError as error:
            if index not in self._skipped:
                self._skipped.add(index)
                self.on_skip(question, str(error))
            return None

    def _nothing(self) -> data.Batch:
        end = self.processor.tokenizer.convert_tokens_to_ids(data.END_OF_TURN)
        fields = {
            "input_ids": [end] * 2,
            "mm_token_type_ids": [0] * 2,
            "labels": [data.IGNORED] * 2,
        }
        return {**fields, **dict.fromkeys(data.VISION_KEYS)}


def train_sft(
    recipe: Recipe,
    cases: Sequence[Case],
    out: str | Path,
    *,
    data_root: str | Path,
    base_model: str | Path | None = None,
    frames: FrameCache | None = None,
) -> Path:
    """Teach `base_model` (the recipe's base) the traces of `cases`; returns `out/model`.

    Targets are the traces' segments in the template, or think and answer alone under the prompt
    that asks for those, as `recipe.sft.target` says. Writes `metrics.jsonl` (a line per step) and
    `skipped.jsonl`. Killed and started again it goes on from the last whole checkpoint; a finished
    stage returns at once. Raises `TrainingError`, `EngineError`, before any weight is loaded.
    """
    out = Path(out)
    if model := finished_model(out):
        return model
    out.mkdir(parents=True, exist_ok=True)
    use_threads(recipe)
    base = base_model or recipe.models.base
    processor = data.load_processor(base)
    config = AutoConfig.from_pretrained(data.resolve_model(base))
    process_aware = recipe.sft.target == "process"
    usable = [case for case in cases if _has_segments(case, process_aware)]
    lacking = [case.question for case in cases if not _has_segments(case, process_aware)]
    record_skipped(out, [(question, "the trace lacks a segment") for question in lacking])
    collator = TraceCollator(
        processor,
        [case.question for case in usable],
        [target(case, process_aware) for case in usable],
        partial(
            data.read_frames,
            root=data_root,
            cache=frames or FrameCache(None),
            **data.train_settings(recipe.video),
        ),
        recipe.style,
        config.text_config.max_position_embeddings,
        lambda question, reason: record_skipped(out, [(question, reason)]),
    )
    if not any(collator.encode(index) for index in range(len(usable))):
        raise TrainingError(
            f"none of {len(cases)} cases can be learnt from: {len(lacking)} lack a segment of the "
            f"trace; all reasons are in {out / 'skipped.jsonl'}"
        )
    made = {
        "base": model_fingerprint(data.resolve_model(base)),
        "style": collator.style,
        "examples": hash_lines(
            question.model_dump_json() + response
            for question, response in zip(collator.questions, collator.responses, strict=True)
        ),
        "sft": recipe.sft.model_dump(mode="json"),
        "tuning": recipe.tuning.model_dump(mode="json"),
        "video": recipe.video.model_dump(mode="json"),
        "seed": recipe.seed,
    }
    checkpoint = open_stage(out, made, {"metrics.jsonl": "step"})
    arguments = sft_arguments(recipe, out / "checkpoints")  # before the model: ZeRO-3 shards it
    model = data.load_model(base, training_dtype(recipe)).train()
    if recipe.tuning.freeze_vision:
        freeze_vision(model)
    lengths = estimate_lengths(collator, Architecture.of(config.to_dict()), recipe.video)
    trainer = TraceTrainer(
        model,
        args=arguments,
        data_collator=collator,
        train_dataset=Dataset.from_dict({"example": list(range(len(usable))), "length": lengths}),
        processing_class=processor,
        peft_config=lora_config(recipe.tuning),
        callbacks=[
            StepLog(out / "metrics.jsonl"),
            *trackers(
                recipe.report_to, out, step_of(checkpoint), training_processes().is_main_process
            ),
        ],
    )
    show_progress(trainer, "sft", "loss", "mean_token_accuracy")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return save_final(trainer, processor, out / "model")


def sft_arguments(recipe: Recipe, checkpoints: Path) -> SFTConfig:
    """`SFTConfig` from the recipe."""
    sft = recipe.sft
    return SFTConfig(
        **shared_arguments(recipe, checkpoints),
        num_train_epochs=sft.epochs,
        max_steps=sft.max_steps,
        save_steps=sft.save_steps,
        per_device_train_batch_size=sft.batch_size,
        gradient_accumulation_steps=sft.accumulation,
        learning_rate=sft.learning_rate,
        warmup_steps=sft.warmup_steps,
        weight_decay=sft.weight_decay,
        train_sampling_strategy="group_by_length" if sft.group_by_length else "random",
        max_length=None,  # what is too long is left out with a reason, never cut
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def estimate_lengths(
    collator: TraceCollator, model: Architecture, video: VideoSettings
) -> list[int]:
    """About how many tokens each example has; nothing is decoded.

    Text is counted, media are taken to be as large as the recipe allows. An example that makes no
    prompt has none: it is left out of its batch.
    """
    texts, seen = [], []
    for question, response in zip(collator.questions, collator.responses, strict=True):
        try:
            texts.append(build_prompt(question, collator.style) + response)
        except DataError:
            texts.append("")
        frames = video.train_frames if question.data_type == "video" else 1
        most = most_vision_tokens(model, frames, video.train_pixels)
        seen.append(most if question.path else 0)
    counts = collator.processor.tokenizer(texts)["input_ids"]
    return [len(ids) + vision for ids, vision in zip(counts, seen, strict=True)]


def _has_segments(case: Case, process_aware: bool) -> bool:
    trace = case.trace
    return bool(trace.think and trace.answer and (trace.observation or not process_aware))


def target(case: Case, process_aware: bool = True) -> str:
    """What the model is to write for a case."""
    trace = case.trace
    return render(trace.observation if process_aware else None, trace.think, trace.answer)
