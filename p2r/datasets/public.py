"""Downloads a public data set from the Hugging Face hub: a known name, a benchmark or ORG/NAME."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from pathlib import Path

from p2r.errors import DataError, UserError
from p2r.evaluation.benchmarks import all_benchmarks
from p2r.files.hub import hub_errors

# Training sets. The address of a benchmark is in its file, `Benchmark.download`.
TRAINING = {"video-r1": "Video-R1/Video-R1-data"}
TEXTS = ("*.json", "*.jsonl", "*.json.gz", "*.parquet", "*.csv", "*.tsv", "*.md")


@dataclass(frozen=True)
class HubFile:
    """A file of a data set: its path, size in bytes, and sha256 if the hub states it."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True)
class PublicSet:
    """A data set on the hub, at one revision, and the files that were chosen."""

    repository: str
    revision: str
    license: str
    files: tuple[HubFile, ...]
    total: int

    @property
    def size(self) -> int:
        """Bytes of the chosen files."""
        return sum(file.size for file in self.files)


def known_sets() -> dict[str, str]:
    """Return the hub address of every set that has a name here."""
    found = {b.name: b.download for b in all_benchmarks().values()}
    return TRAINING | {
        name: place.removeprefix("hub ").partition(":")[0]
        for name, place in found.items()
        if place.startswith("hub ")
    }


def find_set(name: str, only: Sequence[str] = (), media: bool = False) -> PublicSet:
    """Ask the hub for a set. Nothing is downloaded.

    `only` are patterns of file names. Without patterns, `media` chooses all files; otherwise only
    the text files are chosen.
    Raises `UserError` if the set is unknown, the hub cannot be reached, or no file matches.
    """
    known = known_sets()
    repository = known.get(name.lower(), name)
    if "/" not in repository:
        raise UserError(f"no public set {name!r}: use one of {', '.join(known)}, or ORG/NAME")
    from huggingface_hub import HfApi

    hub = HfApi()
    with hub_errors(repository, "dataset"):
        about = hub.dataset_info(repository, timeout=10)
        found = list(hub.list_repo_tree(repository, "", recursive=True, revision=about.sha,
                                        repo_type="dataset"))  # fmt: skip
    files = [
        HubFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None)
        for entry in found
        if hasattr(entry, "size")  # not a folder
    ]
    patterns = only or (("*",) if media else TEXTS)
    chosen = tuple(f for f in files if any(fnmatch(f.path, pattern) for pattern in patterns))
    if not chosen:
        raise UserError(
            f"{repository} has {len(files)} files, but none matches {', '.join(patterns)}: give "
            "another --only PATTERN, or --media for all files"
        )
    stated = (about.card_data.get("license") if about.card_data else None) or "none stated"
    return PublicSet(repository, str(about.sha), str(stated), chosen, len(files))


def check_space(wanted: PublicSet, folder: Path) -> None:
    """Raise `UserError` if the disk of `folder` is too small for the files that are missing."""
    place = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    missing = sum(f.size for f in wanted.files if not (folder / f.path).is_file())
    if missing > (free := shutil.disk_usage(place).free):
        raise UserError(
            f"{wanted.repository} needs {missing / 1e9:.1f} GB, but the disk of {folder} has only "
            f"{free / 1e9:.1f} GB free: give another --out, or choose fewer files with --only"
        )


def download_set(wanted: PublicSet, folder: Path) -> list[Path]:
    """Download the files of a set and check their sizes and checksums; return their paths.

    After a broken connection, the download of a file continues. If called again, finished files are
    kept. Raises `UserError`, and `DataError` if a file differs from the file on the hub.
    """
    from huggingface_hub import snapshot_download

    check_space(wanted, folder)
    names = [escape(f.path) for f in wanted.files]  # the client reads names as patterns
    with hub_errors(wanted.repository, "dataset"):
        snapshot_download(
            wanted.repository,
            repo_type="dataset",
            revision=wanted.revision,
            local_dir=folder,
            allow_patterns=names,
        )
    for file in wanted.files:
        _check_file(folder / file.path, file)
    return [folder / file.path for file in wanted.files]


def _check_file(path: Path, wanted: HubFile) -> None:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest() if wanted.sha256 else None
    if path.stat().st_size != wanted.size or digest != wanted.sha256:
        raise DataError(
            f"{path} differs from the file on the hub (size or checksum): delete it, and run the "
            "same command again"
        )
