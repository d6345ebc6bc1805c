"""Find media files. Only this module joins the path of a data set to a media root."""

from __future__ import annotations

from pathlib import Path

from p2r.errors import MediaError


def resolve_media(root: str | Path, relative: str) -> Path:
    """Return the absolute path of a media file below its root; the file need not exist.

    The path is untrusted. `MediaError` is raised if it is empty or absolute, contains `..`, or
    leaves the root through a symbolic link. Links inside the root are followed.
    """
    if not relative or relative.isspace():
        raise MediaError(relative, "it is empty")
    if "\0" in relative:
        raise MediaError(relative, "it contains a NUL character")
    if Path(relative).is_absolute() or relative.startswith("~"):
        raise MediaError(relative, "it is absolute; give it relative to the media root")
    if ".." in Path(relative).parts:
        raise MediaError(relative, "it leaves the media root with '..'")
    try:
        base = Path(root).resolve()
        resolved = (base / relative).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, or not a file name
        raise MediaError(relative, str(error)) from error
    if base not in resolved.parents:
        raise MediaError(relative, "it leads out of the media root through a symbolic link")
    return resolved
