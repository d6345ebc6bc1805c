"""Look into picture files whose record does not say if they are videos."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from p2r.errors import MediaError
from p2r.files.media import resolve_media
from p2r.formats.rawrecords import ABSENT
from p2r.records import Question
from p2r.video import is_animated

_MAY_MOVE = {".gif", ".webp", ".png", ".apng", ".avif"}


def settle_data_type(question: Question, root: str | Path) -> Question:
    """Return the question as one about a video if its picture has several frames.

    Only a question whose record names no data type is changed. A missing file changes nothing.
    """
    named = "data_type" not in question.meta.get(ABSENT, {})
    if named or PurePosixPath(question.path).suffix.lower() not in _MAY_MOVE:
        return question
    try:
        moves = is_animated(resolve_media(root, question.path))
    except MediaError:
        return question
    return question.model_copy(update={"data_type": "video"}) if moves else question
