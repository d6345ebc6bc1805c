"""Finds engines and quality filters by the names of their files."""

from __future__ import annotations

from pathlib import Path


def find_plugins(folder: str, function: str) -> list[str]:
    """Return the modules of a folder of `p2r` that define a function: engines, quality filters.

    A new engine or filter is one file. This reads the source, because the recipe must not import
    packages above it.
    """
    files = sorted((Path(__file__).parents[1] / folder).glob("*.py"))
    marked = [f for f in files if f"\ndef {function}(" in f.read_text(encoding="utf-8")]
    return [file.stem for file in marked if file.stem != "__init__"]


def check_engine(name: str) -> str:
    """Return the name of an engine. Raises `ValueError` for an unknown one."""
    known = find_plugins("engines", "make_engine")
    if name not in known:
        raise ValueError(f"no engine {name!r}: use one of {', '.join(known)}")
    return name
