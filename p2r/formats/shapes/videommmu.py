"""VideoMMMU: the id names the video. Its files nest records by track and number."""

from __future__ import annotations

import re
from typing import Any

from p2r.formats.media import MEDIA_KEYS
from p2r.formats.shapes import Shape
from p2r.formats.shapes.plain import unify as unify_plain
from p2r.formats.values import Raw, blank

_ID = re.compile(r"(?:dev|validation|test)_\w+_\d+")


def matches(record: Raw) -> bool:
    """Return whether the id is one of VideoMMMU and no other key names the media."""
    identity: Any = record.get("id")
    return (
        isinstance(identity, str)
        and _ID.fullmatch(identity) is not None
        and isinstance(record.get("question"), str)
        and all(blank(record.get(key)) for key in MEDIA_KEYS)
    )


def unify(record: Raw) -> Raw:
    """Return the record with the keys of Video-R1."""
    return unify_plain(record) | {"path": f"{record['id']}.mp4", "data_source": "VideoMMMU"}


SHAPE = Shape(
    name="VideoMMMU",
    keys="question and an id like dev_Biology_3",
    example={
        "id": "dev_Biology_3",
        "link_selected": "https://…",
        "question": "How many?",
        "options": ["3, 3", "3, 4"],
        "answer": "B",
    },
    matches=matches,
    unify=unify,
)
