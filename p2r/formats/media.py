"""Find the media of a raw record: the file, its kind, and the bounds of a clip."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from p2r.formats.values import TEXT_ONLY, BadValue, blank, data_type_of, literal, short

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
# The keys of media files, in the order in which they count.
PATH_KEYS = ("path", "media_path", "media", "file_path")
VIDEO_KEYS = (
    *("video_path", "video_file", "video", "videos", "video_paths", "video_url", "video_name"),
    *("clip_path", "frames_path", "frame_folder"),
)
IMAGE_KEYS = ("image_path", "image_file", "image", "images", "image_paths", "image_url")
MEDIA_KEYS = (*PATH_KEYS, *VIDEO_KEYS, *IMAGE_KEYS)
# The keys of the bounds of a clip: in pairs, or with both bounds in one value. Keys that can hold
# an answer about time (timestamps, segment) are left out.
BOUND_PAIRS = (
    *(("start", "end"), ("video_start", "video_end"), ("clip_start", "clip_end")),
    *(("start_time", "end_time"), ("start_sec", "end_sec"), ("start_seconds", "end_seconds")),
    ("begin", "end"),
)
BOUND_KEYS = ("clip", "bound", "bounds", "clip_bounds", "video_bounds")

NO_MEDIA = (
    f"no media: none of {', '.join(MEDIA_KEYS[:1] + VIDEO_KEYS[:4] + IMAGE_KEYS[:4])} names a "
    'file (data_type "text" marks a question without media)'
)


@dataclass(frozen=True)
class Media:
    """The media of a question.

    `path` is "" for a question without media. `kind` is "video" or "image". `window` holds those of
    `start`, `end` (seconds) and `fps` (of a folder of pictures) that the record gives.
    """

    path: str
    kind: str
    window: dict[str, float]


def read_media(record: Mapping[str, Any]) -> Media:
    """Return the media of a record.

    Raises BadValue if there are none or several, or if the bounds of the clip are not readable.
    """
    given = record.get("data_type")
    kind = "" if blank(given) else data_type_of(given)
    text_only = isinstance(given, str) and given.strip().lower() in TEXT_ONLY
    keys = {"video": PATH_KEYS + VIDEO_KEYS, "image": PATH_KEYS + IMAGE_KEYS}.get(kind, MEDIA_KEYS)
    found = {key: files for key in keys if (files := list(_files(key, record.get(key))))}
    if not found:
        # A record may name a picture under a key of the other kind.
        found = {k: files for k in MEDIA_KEYS if (files := list(_files(k, record.get(k))))}
    if not found:
        if text_only:
            return Media("", "video", {})
        raise BadValue(NO_MEDIA)
    key = next(iter(found))
    kinds = {k in IMAGE_KEYS for k in found}
    several = [file for files in found.values() for file in files]
    if len(found[key]) > 1 or (key not in PATH_KEYS and len(kinds) > 1):
        raise BadValue(
            f"{len(several)} media files for one question, but p2r takes one: {short(several)}"
        )
    path = found[key][0]
    suffix = PurePosixPath(path).suffix.lower()
    if not kind:
        kind = "image" if suffix in IMAGES or (key in IMAGE_KEYS and not suffix) else "video"
    window = read_window(record)
    rate = record.get("fps")
    if not suffix and isinstance(rate, int | float) and 0 < rate < math.inf:
        window["fps"] = float(rate)
    return Media(path, kind, window)


def path_of(value: Any) -> str:
    """Return the file that a value names: a text, a list of one file, or an object with a path."""
    return next(_files("path", value), "")


def _files(key: str, value: Any) -> Iterator[str]:
    """Yield the files that a value names: a text, a list, or objects with a path."""
    if isinstance(value, str):
        if value.strip().startswith("["):
            value = literal(value.strip())
        if isinstance(value, str):
            if value.strip() not in ("", "None", "nan", "null"):  # nulls in a file of strings
                yield value
            return
    if isinstance(value, list | tuple):
        for part in value:
            if isinstance(part, list | tuple):
                raise BadValue(f"a list in a list of media files under {key}: {short(part)}")
            yield from _files(key, part)
    elif isinstance(value, Mapping):
        inner = next((value[k] for k in ("path", "url", key) if not blank(value.get(k))), None)
        if inner is None and not blank(value.get("bytes")):
            raise BadValue(
                f"the media are inside the file, under {key}.bytes: save them as files and give "
                "their paths"
            )
        if not isinstance(inner, str | None):
            raise BadValue(f"no media file under {key}: {short(value)}")
        yield from _files(key, inner)
    elif not blank(value):
        raise BadValue(f"a number instead of a media file under {key}: {short(value)}")


def read_window(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the bounds of the clip, `start` and `end` in seconds. Raises BadValue."""
    for keys in BOUND_PAIRS:
        values = [record.get(key) for key in keys]
        if not all(map(_absent, values)):
            return _window(*values)
    for key in BOUND_KEYS:
        value = record.get(key)
        if isinstance(value, str):
            value = literal(value.strip())
        if isinstance(value, Mapping):
            value = [value.get("start"), value.get("end")]
        if isinstance(value, list | tuple) and len(value) == 1:
            value = value[0]
        if isinstance(value, list | tuple):
            if len(value) != 2:
                raise BadValue(f"the bounds under {key} are not a start and an end: {short(value)}")
            return _window(*value)
    return {}


def _absent(value: Any) -> bool:
    return blank(value) or isinstance(value, bool)


def _window(start: Any, end: Any) -> dict[str, float]:
    window = {
        name: seconds_of(value)
        for name, value in (("start", start), ("end", end))
        if not _absent(value)
    }
    if window.get("start", 0) == window.get("end") == 0:  # how some tables write "no clip"
        return {}
    if window.get("end", math.inf) < window.get("start", 0):
        raise BadValue(
            f"the clip ends at {window['end']:g} s, before it starts at {window['start']:g} s"
        )
    return window


def seconds_of(value: Any) -> float:
    """Return a time in seconds: a number, "12.5", "12.5s", "1:02" or "00:01:02.5"."""
    if isinstance(value, str):
        text = value.strip().removesuffix("s").strip()
        if re.fullmatch(r"(\d+:){0,2}\d+([.,]\d+)?", text):
            seconds = 0.0
            for part in text.replace(",", ".").split(":"):
                seconds = seconds * 60 + float(part)
            return seconds
    elif isinstance(value, int | float) and 0 <= value < math.inf:
        return float(value)
    raise BadValue(f"the bounds of the clip are not times in seconds: {short(value)}")
