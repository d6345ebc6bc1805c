"""What SFT and RL share: checkpoints that count only when whole, logs without doubles, one final
model.

A training stage is a folder: `checkpoints/`, `metrics.jsonl` (one line per optimiser step),
`skipped.jsonl` (what was left out and why) and, when it is done and only then, `model/`. It can be
killed at any moment and started again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from peft import PeftModel
from tqdm import tqdm
from transformers import PrinterCallback, TrainerCallback

from p2r.files.jsonlines import to_line
from p2r.records import Question
from p2r.runs import claim, write_text
from p2r.runs.recipe import Recipe
from p2r.training.tuning import merge_adapters

if TYPE_CHECKING:
    from transformers import Trainer

COMPLETE = "complete"  # the file that makes a checkpoint count: written last
CHECKPOINT = "checkpoint-"


def training_processes() -> PartialState:
    """The processes that train together, set up as `TrainingArguments` will set them up."""
    return PartialState(cpu=not torch.cuda.is_available())


def open_stage(out: Path, made: dict[str, Any], step_keys: Mapping[str, str]) -> Path | None:
    """Make a stage's folder ready to begin or to go on; returns the checkpoint to go on from.

    `made` is what the stage's outcome depends on: it must be what the stage began with. The logs in
    `step_keys` (file → dotted key of the step) lose the steps after the checkpoint, which are done
    again. Raises `UserError`.
    """
    processes = training_processes()
    with processes.main_process_first():
        checkpoint = latest_checkpoint(out / "checkpoints")
        if processes.is_main_process:
            claim(out / "made.json", made)
            for name, key in step_keys.items():
                keep_until(out / name, step_of(checkpoint), key)
    return checkpoint


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; torn ones, cut off while they were written, are deleted."""
    whole = []
    for checkpoint in folder.glob(f"{CHECKPOINT}*"):
        if (checkpoint / COMPLETE).is_file():
            whole.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path | None) -> int:
    """The optimiser step a checkpoint was taken after; 0 for none."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix(CHECKPOINT))


class ExactResume:
    """Mixin of trainers: resuming takes all weights of the checkpoint, or fails.

    transformers 5.17 saves a Qwen2.5-VL under its older parameter names but, on resuming, looks
    them up under the present ones, finds none, warns, and trains on from the start model.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:  # sharded weights keep their names
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        mine = self.accelerator.unwrap_model(self.model if model is None else model)
        if isinstance(mine, PeftModel):  # adapters keep their names
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = type(mine).from_pretrained(
            resume_from_checkpoint, dtype=mine.dtype, use_safetensors=True
        )
        mine.load_state_dict(saved.state_dict())


class StepLog(TrainerCallback):
    """Writes a line of metrics per logged step, and marks checkpoints as whole once they are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """Append the step's metrics; the summary that ends a training is left out."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            append_lines(self.path, [{"step": state.global_step, **logs}])

    def on_save(self, args, state, control, **kwargs) -> None:
        """Runs after everything of the checkpoint is written."""
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"{CHECKPOINT}{state.global_step}"
            write_text(checkpoint / COMPLETE, "")


def append_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Append JSON lines in one write; ASCII only, so that no character ends or tears a line."""
    lines = "".join(map(to_line, records))
    with path.open("a", encoding="utf-8") as file:
        file.write(lines)


def keep_until(path: Path, step: int, step_key: str) -> None:
    """Drop the lines of steps after `step`, and a torn last line, so that no step stands twice.

    `step_key` is the dotted key that holds a line's step.
    """
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        value: Any = json.loads(line)
        for key in step_key.split("."):
            value = value[key]
        if value <= step:
            kept.append(line)
    write_text(path, "".join(kept))


def hash_lines(lines: Iterable[str]) -> str:
    """12 hex digits that name a list of texts."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:12]


def record_skipped(folder: Path, skipped: Iterable[tuple[Question, str]]) -> None:
    """List in `skipped.jsonl` what a training leaves out: question, file, reason; each once."""
    path = folder / "skipped.jsonl"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    listed = {json.loads(line)["id"] for line in before.splitlines()}
    rows = [
        {"id": question.id, "path": question.path, "reason": reason}
        for question, reason in skipped
        if question.id not in listed
    ]
    if rows:
        write_text(path, before + "".join(map(to_line, rows)))


def show_progress(trainer: Trainer, title: str, *shown: str) -> None:
    """One bar of optimiser steps with the latest of the metrics `shown`, not a line for each."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Progress(title, shown))


class _Progress(TrainerCallback):
    def __init__(self, title: str, shown: Sequence[str]) -> None:
        self.title, self.shown = title, shown

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=self.title,
            unit="step",
            disable=not state.is_world_process_zero,
        )

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        latest = {key: logs[key] for key in self.shown if isinstance(logs.get(key), float)}
        if latest:
            self.bar.set_postfix(latest)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.bar.close()


def save_final(trainer: Trainer, processor: Any, folder: Path) -> Path:
    """Save model and processor, so that `folder` is there whole or not at all; drop checkpoints.

    Adapters are merged into the model they were trained on.
    """
    temporary = folder.with_name(f".{folder.name}.part")
    adapters = folder.with_name(f".{folder.name}.adapters")
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapted = isinstance(model, PeftModel)
    if trainer.is_world_process_zero():
        for rest in (temporary, adapters):
            shutil.rmtree(rest, ignore_errors=True)
    trainer.save_model(str(adapters if adapted else temporary))
    if trainer.is_world_process_zero():
        if adapted:
            base = model.get_base_model()
            merge_adapters(base.name_or_path, adapters, temporary, base.dtype)
            shutil.rmtree(adapters)
        processor.save_pretrained(temporary)
        (temporary / "training_args.bin").unlink(missing_ok=True)  # a pickle
        os.replace(temporary, folder)
        shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return folder


def shared_arguments(recipe: Recipe, checkpoints: Path) -> dict[str, Any]:
    """The settings of `TrainingArguments` that SFT and RL have in common, each set knowingly.

    Weights are trained in float32 under bfloat16 autocast: in pure bfloat16 an AdamW step of 1e-6
    is lost in rounding. (DeepSpeed keeps float32 masters itself, so there the weights may be
    bfloat16; so may those under adapters, which do not change and whose adapters are float32.)
    """
    large = recipe.models.dtype == "bfloat16"
    return {
        "output_dir": str(checkpoints),
        "seed": recipe.seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": large,
        "gradient_checkpointing": large,  # pays in memory at billions of weights, costs time below
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is no number is shown as such
        "save_strategy": "steps",
        "save_total_limit": 2,  # the older one counts until the newer one is whole
        "report_to": "none",  # see `p2r.training.tracking`
        "disable_tqdm": True,  # see `show_progress`
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }


def training_dtype(recipe: Recipe) -> str:
    """The dtype the trained weights are kept in; see `shared_arguments`."""
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"
    kept = deepspeed or recipe.tuning.lora_rank is not None
    return recipe.models.dtype if kept else "float32"
