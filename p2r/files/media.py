"""Media files: their places below a media root, and their types.

Only this module joins the path of a data set to a media root.
"""

from __future__ import annotations

import codecs
import mimetypes
from pathlib import Path

from p2r.errors import MediaError

# The types of clips and pictures. Python's own table is not the same on every machine.
MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo",
    ".gif": "image/gif",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}
_HEAD = 4096  # bytes


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


def find_media_fault(root: str | Path, relative: str) -> str | None:
    """Return why a media file cannot be used: a bad path or no file. None if the file exists."""
    try:
        return None if resolve_media(root, relative).exists() else f"no file {relative}"
    except (MediaError, OSError) as error:  # OSError: the name is too long
        return str(error)


def media_exists(root: str | Path, relative: str) -> bool:
    """Return whether a media file is below its root. A bad path has no file."""
    return find_media_fault(root, relative) is None


def find_content_fault(path: Path) -> str | None:
    """Return why a file cannot be a clip or a picture: it is empty or text. None if it may be one.

    Only the beginning of the file is read, and nothing is decoded. A folder may hold pictures.
    """
    if not path.is_file():  # a folder, or a pipe that would wait
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "the file is empty"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may cut a character
    except UnicodeDecodeError:
        return None
    if all(character.isprintable() or character in "\t\r\n\f" for character in text):
        return "the file is text, not a clip or a picture"
    return None


def media_type(path: Path) -> str:
    """Return the type of a clip or picture by its name; "" for any other file."""
    kind = MEDIA_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path)[0] or ""
    return kind if kind.startswith(("video/", "image/")) else ""
