"""The folder of a training stage: checkpoints, logs and progress.

SFT and RL share it. A stage folder holds `checkpoints/`, `metrics.jsonl` (one line per optimiser
step), `skipped.jsonl` (skipped questions with the reason) and, at the end, `model/`. A stage can be
killed at any time and started again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from filelock import lock_descriptor
from peft import PeftModel
from tqdm import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.integrations import (
    TensorBoardCallback,
    get_reporting_integration_callbacks,
    rewrite_logs,
)

from p2r.errors import TrainingError
from p2r.files.journal import append_whole, cut_torn_line
from p2r.files.jsonlines import to_line
from p2r.files.user_code import load_object
from p2r.records import Question
from p2r.runs import claim, write_text

COMPLETE = "complete"  # written last: a checkpoint without this file is ignored and deleted
CHECKPOINT = "checkpoint-"
# How long workers wait for each other. The judge, a vLLM server or the first decoding of all videos
# may keep one worker busy for long; the default of NCCL is 10 minutes.
PATIENCE = timedelta(hours=12)


def workers() -> PartialState:
    """Return the workers (OS processes) that train together, set up as `TrainingArguments` does."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


# ------------------------------------------------------------------------------- start and resume


def open_stage(out: Path, made: dict[str, Any], step_keys: Mapping[str, str]) -> Path | None:
    """Prepare a stage folder for a start or a resume; return the checkpoint to resume from.

    `made` holds every setting that the result depends on. It must equal the settings of the first
    start. `step_keys` maps each log to the dotted key of its step; steps after the checkpoint are
    removed from the logs, because they are trained again. Raises `UserError`.
    """
    state = workers()
    with state.main_process_first():
        checkpoint = latest_checkpoint(out / "checkpoints")
        if state.is_main_process:
            claim(out / "made.json", made)
            for name, key in step_keys.items():
                keep_until(out / name, step_of(checkpoint), key)
    return checkpoint


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint; delete incomplete ones."""
    complete = []
    for checkpoint in folder.glob(f"{CHECKPOINT}*"):
        if (checkpoint / COMPLETE).is_file():
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(complete, key=step_of, default=None)


def step_of(checkpoint: Path | None) -> int:
    """Return the optimiser step of a checkpoint; 0 for None."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix(CHECKPOINT))


# -------------------------------------------------------------------------- errors of all workers


def raised_together(error: Exception) -> Exception:
    """Mark an error that every worker raises at the same place; see `checkpoint_on_error`."""
    error.together = True  # type: ignore[attr-defined]
    return error


def raise_together(error: Exception | None) -> None:
    """Raise `error` here and a `TrainingError` with its text on all other workers.

    All workers must call this at the same place. Nothing is raised if `error` is None everywhere.
    """
    state = workers()
    reasons = gather_object([None if error is None else f"{type(error).__name__}: {error}"])
    if error is not None:
        raise raised_together(error)
    for rank, reason in enumerate(reasons):
        if reason is not None:
            raise raised_together(
                TrainingError(f"worker {rank} of {state.num_processes} failed: {reason}")
            )


@contextmanager
def together() -> Iterator[None]:
    """Raise an error of the block on all workers, see `raise_together`."""
    error: Exception | None = None
    try:
        yield
    except Exception as raised:
        error = raised
    raise_together(error)


@contextmanager
def checkpoint_on_error(trainer: Trainer) -> Iterator[None]:
    """Save a checkpoint of the finished steps before an error of all workers leaves the block.

    So no step is lost: the next start continues with the step that failed, from the same random
    numbers.
    """
    python, numbers, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    seen = trainer.state.num_input_tokens_seen
    try:
        yield
    except Exception as error:
        step = trainer.state.global_step
        checkpoint = Path(trainer.args.output_dir) / f"{CHECKPOINT}{step}" / COMPLETE
        if getattr(error, "together", False) and step > 0 and not checkpoint.is_file():
            random.setstate(python)
            np.random.set_state(numbers)
            torch.set_rng_state(tensors)
            if cuda:
                torch.cuda.set_rng_state_all(cuda)
            trainer.state.num_input_tokens_seen = seen
            trainer._save_checkpoint(trainer.model, trial=None)
            trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
        raise


class ExactResume(Trainer):
    """A mixin for trainers: a resume loads all weights of the checkpoint, or fails.

    transformers 5.17 saves some models, such as Qwen2.5-VL, under older parameter names. On a
    resume it looks for the new names, finds none, prints a warning and continues from the start
    model.
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Serves `Trainer.train`, which calls it on a resume."""
        mine = self.accelerator.unwrap_model(self.model if model is None else model)
        # The weights of FSDP and of adapters keep their names.
        if self.is_fsdp_enabled or isinstance(mine, PeftModel):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        saved = type(mine).from_pretrained(
            resume_from_checkpoint, dtype=mine.dtype, use_safetensors=True
        )
        mine.load_state_dict(saved.state_dict())


# -------------------------------------------------------------------------------------------- logs


class StepLog(TrainerCallback):
    """Writes one line of metrics per optimiser step, and marks finished checkpoints as complete."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Append the metrics of a step; skip the summary at the end of the training."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            append_lines(self.path, [{"step": state.global_step, **logs}])

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint; the trainer calls this after it has written every file."""
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"{CHECKPOINT}{state.global_step}"
            write_text(checkpoint / COMPLETE, "")


def append_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Append records as JSON lines, in one write and in ASCII, so that no text breaks a line."""
    lines = "".join(map(to_line, records))
    with path.open("a", encoding="utf-8") as file:
        file.write(lines)


def keep_until(path: Path, step: int, step_key: str) -> None:
    """Remove the lines of steps after `step`, and a half-written last line.

    `step_key` is the dotted key of a line's step.
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
    """Return 12 hex digits that identify a list of texts."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:12]


def record_skipped(folder: Path, skipped: Iterable[tuple[Question, str]]) -> None:
    """Add skipped questions to `skipped.jsonl`: id, file and reason, each question once.

    Several workers may call this at the same time.
    """
    rows = {
        question.id: {"id": question.id, "path": question.path, "reason": reason}
        for question, reason in skipped
    }
    if not rows:
        return
    path = folder / "skipped.jsonl"
    with path.open("a+b", buffering=0) as file:
        lock_descriptor(file.fileno())  # released when the file is closed
        size = cut_torn_line(file.fileno(), path)
        file.seek(0)
        listed = {json.loads(line)["id"] for line in file.read().splitlines()}
        lines = "".join(to_line(row) for name, row in rows.items() if name not in listed)
        append_whole(file.fileno(), lines.encode(), size)


# ------------------------------------------------------------------------- dashboards and progress

# Variables that make trackio send metrics to another machine.
_REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID")


def trackers(report_to: str, out: Path, step: int, main_process: bool) -> list[TrainerCallback]:
    """Return the callbacks that send metrics to trackers.

    `report_to` is a recipe key: "none" (default), or names separated by commas. TensorBoard writes
    to `out/tensorboard` (`tensorboard --logdir RUN`) and drops the steps after `step`. Trackio
    writes to its own local store (TRACKIO_DIR), project "p2r", run "RUN/STAGE" (`trackio show
    --project p2r`). The others are the integrations of transformers, which read their settings from
    the environment (WANDB_PROJECT, MLFLOW_TRACKING_URI …); "FILE.py:CLASS" is a `TrainerCallback`
    of the user. Raises `TrainingError` if a library is not installed.
    """
    if not main_process:
        return []
    return [_tracker(name, out, step) for name in report_to.split(",") if name != "none"]


def _tracker(name: str, out: Path, step: int) -> TrainerCallback:
    if ":" in name:
        made = load_object(name)()
        if not isinstance(made, TrainerCallback):
            raise TrainingError(f"report_to={name} is not a transformers.TrainerCallback")
        return made
    try:
        if name == "trackio":
            return _Trackio(f"{out.resolve().parent.name}/{out.name}")
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            return TensorBoardCallback(SummaryWriter(out / "tensorboard", purge_step=step + 1))
        (integration,) = get_reporting_integration_callbacks([name])
        return integration()
    except (ImportError, RuntimeError) as error:  # transformers raises RuntimeError
        raise TrainingError(
            f"report_to={name} needs a library ({error}): pip install {name}, or set report_to=none"
        ) from error


class _Trackio(TrainerCallback):
    """Logs the metrics of every step to trackio; a resumed stage continues its run."""

    def __init__(self, name: str) -> None:
        import trackio

        self.trackio, self.name = trackio, name

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with _without_remote():
            self.trackio.init(
                project="p2r",
                name=self.name,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "train_runtime" not in logs:  # the summary at the end belongs to no step
            self.trackio.log(rewrite_logs(logs), step=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trackio.finish()


@contextmanager
def _without_remote() -> Iterator[None]:
    """Hide the variables that make trackio send metrics to another machine."""
    kept = {name: os.environ.pop(name) for name in _REMOTE if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def show_progress(trainer: Trainer, title: str, *shown: str) -> None:
    """Show one progress bar with the latest values of the metrics `shown`."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Progress(title, shown))


class _Progress(TrainerCallback):
    def __init__(self, title: str, shown: Sequence[str]) -> None:
        self.title, self.shown = title, shown

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=self.title,
            unit="step",
            disable=not state.is_world_process_zero,
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        latest = {key: logs[key] for key in self.shown if isinstance(logs.get(key), float)}
        if latest:
            calm = getattr(self.bar, "mininterval", 0) > 1  # of a log file: see `calm_bars`
            self.bar.set_postfix(latest, refresh=not calm)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.close()
