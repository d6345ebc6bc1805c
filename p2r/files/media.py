"""Media files by relative path: the one place where a data set's path is joined to a root."""

from __future__ import annotations

from pathlib import Path

from p2r.errors import MediaError


def resolve_media(root: str | Path, relative: str) -> Path:
    """The absolute path of a media file below its root; the file itself need not exist.

    Paths come from strangers' files: an empty or absolute path, one with `..`, and one that leaves
    the root through a symbolic link raise `MediaError`. Links that stay inside are followed.
    """
    if not relative or relative.isspace():
        raise MediaError(relative, "it is empty")
    if "\0" in relative:
        raise MediaError(relative, "it holds a NUL character")
    if Path(relative).is_absolute() or relative.startswith("~"):
        raise MediaError(relative, "it is absolute; give it relative to the media root")
    if ".." in Path(relative).parts:
        raise MediaError(relative, "it leaves the media root with '..'")
    try:
        base = Path(root).resolve()
        resolved = (base / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; no name of a file
        raise MediaError(relative, str(error)) from error
    if base not in resolved.parents:
        raise MediaError(relative, "it leads out of the media root through a symbolic link")
    return resolved
