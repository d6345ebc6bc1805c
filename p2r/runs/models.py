"""Find and identify the models of a run."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path


def finished_model(out: Path) -> Path | None:
    """Return `out/model` if the training stage in `out` is done, else None.

    A trainer moves the complete model to this place as its last step. Checkpoints that a kill at
    that moment left behind are removed.
    """
    model = out / "model"
    if not model.is_dir():
        return None
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return model


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
