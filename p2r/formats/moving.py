"""Finds animated pictures. They are videos, unless the record names another type."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from p2r.errors import MediaError
from p2r.files.media import resolve_media
from p2r.formats.fields import ABSENT
from p2r.records import Medium, Question, more_media
from p2r.video import is_animated

_MAY_MOVE = {".gif", ".webp", ".png", ".apng", ".avif"}


def settle_data_type(question: Question, root: str | Path) -> Question:
    """Return the question with "video" as the type of its pictures that have several frames.

    A data type that the record names is not changed. A missing file changes nothing.
    """
    first = question.media[0] if question.media else None
    more = question.media[1:]
    changes: dict[str, Any] = {}
    if first and "data_type" in question.meta.get(ABSENT, {}) and _moves(first, root):
        changes["data_type"] = "video"
    if moving := [medium for medium in more if _moves(medium, root)]:
        for medium in moving:
            medium.data_type = "video"
        changes["meta"] = question.meta | more_media(more)
    return question.model_copy(update=changes) if changes else question


def _moves(medium: Medium, root: str | Path) -> bool:
    if PurePosixPath(medium.path).suffix.lower() not in _MAY_MOVE:
        return False
    try:
        return is_animated(resolve_media(root, medium.path))
    except MediaError:
        return False
