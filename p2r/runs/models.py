"""Find and identify the models of a run."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "playground" / "models"  # the models of the playground
# The models that the package must have: those of the recipes `tiny1` and `tiny`.
EMBEDDED = tuple(
    f"playground/{world}{name}" for world in ("", "second/") for name in ("base", "teacher")
)
KEPT = "kept"  # the names of the checkpoints to keep, in the folder of checkpoints


def shipped_models() -> list[str]:
    """Return the names of the embedded models, for example "playground/base"."""
    folders = (file.parent.relative_to(SHIPPED) for file in SHIPPED.rglob("config.json"))
    return sorted(f"playground/{folder.as_posix()}" for folder in folders)


def finished_model(out: Path) -> Path | None:
    """Return `out/model` if the training stage in `out` is done, else None.

    A trainer moves the complete model to this place as its last step. Checkpoints that a kill at
    that moment left behind are removed, except those that the recipe keeps.
    """
    model = out / "model"
    if not model.is_dir():
        return None
    remove_checkpoints(out / "checkpoints")
    return model


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a finished training except those that `folder/kept` names."""
    kept = folder / KEPT
    names = kept.read_text(encoding="utf-8").split() if kept.is_file() else []
    if not names:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name not in names:
            shutil.rmtree(entry)


def model_fingerprint(folder: str | Path) -> str:
    """Return 12 hex characters that identify a model's weights.

    They are a hash of each weight file's size, first MiB and last MiB. A name that is not a folder
    (a hub id) is returned unchanged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return str(folder)
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as weights:
            digest.update(weights.read(2**20))
            weights.seek(max(0, size - 2**20))
            digest.update(weights.read(2**20))
    return digest.hexdigest()[:12]
