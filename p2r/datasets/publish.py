"""Publish a data set with its cards: on the Hugging Face hub, or in a folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from p2r.datasets.cards import write_card
from p2r.datasets.describe import card_of
from p2r.datasets.items import EXPORTED, export_record, read_items
from p2r.errors import UserError
from p2r.files.atomic import replacing
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
        return _upload(staged, repository, private)


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


def _upload(staged: Path, repository: str, private: bool) -> str:
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub = HfApi()
    try:
        url = hub.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, repo_type="dataset", folder_path=staged)
    except (HfHubHTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the hub refused {repository!r} ({reason}): check its name and `hf auth login`"
        ) from error
    except httpx.TransportError as error:
        raise UserError(
            f"the hub cannot be reached ({error}): run the same command again later, or write the "
            "set to a folder with --folder"
        ) from error
    return str(url)
