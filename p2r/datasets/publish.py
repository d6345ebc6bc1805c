"""Publish a data set with its cards: on the Hugging Face hub, or in a folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from p2r.datasets.cards import write_card
from p2r.datasets.describe import card_of
from p2r.datasets.items import EXPORTED, export_record, read_items
from p2r.files.atomic import replacing
from p2r.files.hub import upload_folder
from p2r.files.jsonlines import to_line


def push(source: Path, repository: str, *, folder: Path | None = None, private: bool = True) -> str:
    """Publish a set as `README.md`, `croissant.json` and `data/train.jsonl`; return its place.

    The set goes to the hub's dataset `repository`, with the token from `hf auth login`. With
    `folder`, the same files go to that folder and nothing is sent.
    """
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        _stage(source, staged, repository)
        if folder is not None:
            shutil.copytree(staged, folder, dirs_exist_ok=True)
            return str(folder)
        return upload_folder(staged, repository, "dataset", private, "--folder")


def preview_push(
    source: Path, repository: str, *, folder: Path | None = None, private: bool = True
) -> list[str]:
    """Return what `push` would publish and where: one line per file, with its size."""
    where = f"{'private' if private else 'public'} dataset {repository} on the hub"
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        _stage(source, staged, repository)
        files = sorted(file for file in staged.rglob("*") if file.is_file())
        sizes = [f"{file.relative_to(staged)}: {file.stat().st_size:,} bytes" for file in files]
    return [f"{where if folder is None else folder}:", *sizes]


def _stage(source: Path, folder: Path, repository: str) -> None:
    with replacing(folder / EXPORTED) as lines:
        lines.writelines(to_line(export_record(item)) for item in read_items(source))
    page, croissant = write_card(card_of(source, repository.rpartition("/")[2]), folder)
    page.rename(folder / "README.md")
    croissant.rename(folder / "croissant.json")
