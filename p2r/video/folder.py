"""Find the videos of a folder by the endings of their names."""

from __future__ import annotations

from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"}
)


def find_clips(folder: str | Path) -> list[Path]:
    """Return the videos in a folder in the order of their names; none if it is no folder."""
    if not Path(folder).is_dir():
        return []
    files = sorted(Path(folder).iterdir())
    return [f for f in files if f.suffix.lower() in VIDEO_SUFFIXES and not f.name.startswith(".")]
