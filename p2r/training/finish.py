"""The end of a training: the final model, its adapters, the best model and kept checkpoints."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import PeftModel

from p2r.files.atomic import write_text
from p2r.runs.models import KEPT, remove_checkpoints
from p2r.training.stage import CHECKPOINT, COMPLETE, step_of
from p2r.training.tuning import merge_adapters

if TYPE_CHECKING:
    from transformers import Trainer


def save_final(trainer: Trainer, processor: Any, out: Path, keep: str) -> Path:
    """Save model and processor to `out/model` atomically, then remove checkpoints; return it.

    Adapters are merged into their base model and also kept as they are, in `out/adapters`. `keep`
    is the recipe key. The best checkpoint of a validated training becomes the model `out/best`.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    drafts = [out / f".{name}.part" for name in ("model", "adapters", "best")]
    whole, adapters, best = drafts
    if trainer.is_world_process_zero():
        for rest in drafts:
            shutil.rmtree(rest, ignore_errors=True)
    trainer.save_model(str(adapters if isinstance(model, PeftModel) else whole))
    if trainer.is_world_process_zero():
        if isinstance(model, PeftModel):
            _merge(model, adapters, whole)
            (adapters / "training_args.bin").unlink(missing_ok=True)
            _put(adapters, out / "adapters")
        checkpoints = Path(trainer.args.output_dir)
        step = trainer.state.best_global_step
        checkpoint = checkpoints / f"{CHECKPOINT}{step}"
        if step and step != trainer.state.global_step and checkpoint.is_dir():
            _save_checkpoint_as_model(model, checkpoint, best)
            processor.save_pretrained(best)
            _put(best, out / "best")
        processor.save_pretrained(whole)
        (whole / "training_args.bin").unlink(missing_ok=True)  # a pickle
        if checkpoints.is_dir():
            write_text(checkpoints / KEPT, "\n".join(kept_checkpoints(checkpoints, keep)))
        os.replace(whole, out / "model")
        remove_checkpoints(checkpoints)
    trainer.accelerator.wait_for_everyone()
    return out / "model"


def kept_checkpoints(folder: Path, keep: str) -> list[str]:
    """Return the names of the complete checkpoints that a finished training keeps."""
    found = sorted((path.parent for path in folder.glob(f"*/{COMPLETE}")), key=step_of)
    if keep == "best":
        return []
    first = 0 if keep == "all" else -int(keep.removeprefix("last "))
    return [path.name for path in found[first:]]


def _merge(model: PeftModel, adapters: Path, folder: Path) -> None:
    base = model.get_base_model()
    merge_adapters(base.name_or_path, adapters, folder, base.dtype)


def _save_checkpoint_as_model(model: Any, checkpoint: Path, folder: Path) -> None:
    """Copy the model of a checkpoint, with its adapters merged."""
    if isinstance(model, PeftModel):
        _merge(model, checkpoint, folder)
        return
    folder.mkdir()
    for file in checkpoint.glob("*"):
        if file.suffix in (".safetensors", ".json") and file.name != "trainer_state.json":
            shutil.copy(file, folder)


def _put(draft: Path, folder: Path) -> None:
    """Move a finished folder to its place; a folder of an earlier try is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(draft, folder)
