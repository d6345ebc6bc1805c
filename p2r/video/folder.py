"""Find the videos and the numbered pictures of a folder, and tell whether files have changed."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"}
)
_PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif"}
)


def find_clips(folder: str | Path) -> list[Path]:
    """Return the videos in a folder in the order of their names; [] if there is no folder."""
    if not Path(folder).is_dir():
        return []
    files = sorted(Path(folder).iterdir())
    return [f for f in files if f.suffix.lower() in VIDEO_SUFFIXES and not f.name.startswith(".")]


def list_pictures(folder: str | Path) -> list[Path]:
    """Return the numbered pictures of a folder in the order of their numbers."""
    found = []
    for file in Path(folder).iterdir():
        number = re.search(r"(\d+)\D*$", file.stem)
        if number and file.suffix.lower() in _PICTURE_SUFFIXES and not file.name.startswith("."):
            found.append((int(number[1]), file.name, file))
    return [file for *_, file in sorted(found)]


def media_state(path: str | os.PathLike[str]) -> tuple[int | str, ...]:
    """Return values that change if a file or a folder of pictures changes; () if there is none.

    A picture that is overwritten in place does not change its folder. So the state of a folder has
    the names, sizes and times of its pictures.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISDIR(found.st_mode):
            return found.st_size, found.st_mtime_ns
        digest = hashlib.sha256()
        for file in list_pictures(os.fspath(path)):
            own = file.stat()
            digest.update(
                f"{file.name}\0{own.st_size}\0{own.st_mtime_ns}\0".encode(errors="replace")
            )
        return (digest.hexdigest()[:24],)
    except (OSError, ValueError):
        return ()
