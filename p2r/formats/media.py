"""Find the media of a raw record: the files and their kinds."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from p2r.formats.bounds import add_windows, read_window
from p2r.formats.values import TEXT_ONLY, BadValue, blank, data_type_of, literal, short, usual_keys
from p2r.records import DataType, Medium
from p2r.video.folder import VIDEO_SUFFIXES

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
# The keys of media files, in the order in which they count.
PATH_KEYS = ("path", "media_path", "media", "file_path")
VIDEO_KEYS = (
    *("video_path", "video_file", "video", "videos", "video_paths", "video_url", "video_name"),
    *("clip_path", "frames_path", "frame_folder", "video_filename", "source_video", "vid_path"),
)
IMAGE_KEYS = (
    *("image_path", "image_file", "image", "images", "image_paths", "image_url", "image_name"),
    *("img", "imgs", "img_path", "picture", "photo"),
)
# Keys that may also hold something else: they count if their value ends like a media file.
MAYBE_KEYS = ("file", "filename", "file_name", "visual", "visuals", "vid", "video_id", "image_id")
MEDIA_KEYS = (*PATH_KEYS, *VIDEO_KEYS, *IMAGE_KEYS)
NO_MEDIA = (
    f"no media: none of {', '.join(MEDIA_KEYS[:1] + VIDEO_KEYS[:4] + IMAGE_KEYS[:4])} names a "
    'file (data_type "text" marks a question without media)'
)


# The place of a medium in the text of a question, as in LLaVA and ms-swift.
PLACEHOLDER = re.compile(r"<(video|image)>")
_NUMBERED = re.compile(r"(video|image)(?:_path|_file|_url)?_?(\d{1,2})")


class _File(NamedTuple):
    """A file that a record names, with the object that names it: it may hold bounds."""

    path: str
    about: Mapping[str, Any]


def read_media(record: Mapping[str, Any]) -> list[Medium]:
    """Return the media of a record in order; [] for a question without media.

    Of several keys for one kind, the first in the order of `MEDIA_KEYS` counts. If the record names
    a data type, media of that type come first. Raises BadValue if
    there are no media, or if the bounds of a clip are not readable.
    """
    given = record.get("data_type")
    kind = "" if blank(given) else data_type_of(given)
    text_only = isinstance(given, str) and given.strip().lower() in TEXT_ONLY
    record = _join_numbered(usual_keys(record))
    named = {key: files for key in MEDIA_KEYS if (files := list(_files(key, record.get(key))))}
    if not named:
        named = {k: f for k in MAYBE_KEYS if (f := list(_files(k, record.get(k))))}
    if not named:
        if text_only:
            return []
        raise BadValue(NO_MEDIA)
    chosen = _choose_keys(named)
    order = [key for key in record if key in chosen]
    order.sort(key=lambda key: bool(kind) and {_kind_of(f.path, key) for f in named[key]} != {kind})
    media = [
        Medium(path=file.path, data_type=_kind_of(file.path, key), **_own_window(file))
        for key in order
        for file in named[key]
    ]
    if kind and len(media) == 1:
        media[0].data_type = kind
    _check_pictures(order, media)
    add_windows(record, media)
    rate = record.get("fps")
    if isinstance(rate, int | float) and 0 < rate < math.inf:
        for medium in media:
            if not PurePosixPath(medium.path).suffix:
                medium.fps = medium.fps or float(rate)
    return media


def _join_numbered(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record with image_1, image_2 … as one list under "images"; videos likewise."""
    numbered: dict[str, dict[int, Any]] = {}
    for key, value in record.items():
        if (match := _NUMBERED.fullmatch(key)) and not blank(value):
            numbered.setdefault(f"{match[1]}s", {})[int(match[2])] = value
    lists = {
        key: [files[number] for number in sorted(files)]
        for key, files in numbered.items()
        if all(blank(record.get(name)) for name in (key, key[:-1]))
    }
    return {**record, **lists} if lists else record


def _choose_keys(named: Mapping[str, list[_File]]) -> set[str]:
    """Return the keys whose files are the media: one key of each kind."""
    chosen: dict[str, str] = {}
    seen: set[str] = set()
    for key, files in named.items():
        paths = {file.path for file in files}
        kinds = {_kind_of(path, key) for path in paths}
        if kinds & chosen.keys() or paths <= seen:
            continue
        seen |= paths
        chosen.update(dict.fromkeys(kinds, key))
    return set(chosen.values())


def _kind_of(path: str, key: str) -> DataType:
    suffix = PurePosixPath(path).suffix.lower()
    return "image" if suffix in IMAGES or (key in IMAGE_KEYS and not suffix) else "video"


def _check_pictures(keys: Sequence[str], media: Sequence[Medium]) -> None:
    """Refuse a video that is given as a list of its frames."""
    frames = len(media) > 1 and all(medium.data_type == "image" for medium in media)
    if frames and all(key in VIDEO_KEYS for key in keys):
        raise BadValue(
            f"{keys[0]} is a list of {len(media)} pictures: put the frames of a video into one "
            "folder and give the folder, or name pictures under images"
        )


def place_media(problem: str, media: list[Medium]) -> tuple[str, list[Medium]]:
    """Return the text of a question and its media in the order of the text's placeholders.

    Prompts put the media first. So the placeholder of a single medium is removed, and so are the
    placeholders of several media if all of them are before the text. Otherwise they stay in their
    places. Raises BadValue if the numbers of placeholders and media differ.
    """
    kinds = PLACEHOLDER.findall(problem)
    if not kinds or not media:
        return problem, media
    if len(kinds) != len(media):
        raise BadValue(
            f"the text has {len(kinds)} media placeholder(s) ({short(' '.join(kinds))[1:-1]}), but "
            f"the record has {len(media)} media file(s)"
        )
    if Counter(kinds) == Counter(medium.data_type for medium in media):
        of_kind = {kind: iter([m for m in media if m.data_type == kind]) for kind in set(kinds)}
        media = [next(of_kind[kind]) for kind in kinds]
    if len(media) == 1:
        return re.sub(rf"[ \t]*{PLACEHOLDER.pattern}[ \t]*\n?", "", problem).strip(), media
    return re.sub(rf"\A(?:\s*{PLACEHOLDER.pattern}){{{len(media)}}}\s*", "", problem), media


def write_media(media: Sequence[Medium], record: dict[str, Any]) -> None:
    """Add media and the bounds of clips to a record, unless `read_media` finds them in it already.

    A single file keeps its own path. Only its bounds are added, as `start`, `end` and `fps`.
    """
    if not media or (len(media) == 1 and not media[0].window):
        return
    try:
        found = place_media(record["problem"], read_media(record))[1]
    except BadValue:
        found = []
    if len(media) > 1 and found != media:
        record["path"] = [{"path": medium.path} | medium.window for medium in media]
    elif len(media) == 1 and [medium.window for medium in found] != [media[0].window]:
        record |= media[0].window


def path_of(value: Any) -> str:
    """Return the file that a value names: a text, a list of one file, or an object with a path."""
    return next((file.path for file in _files("path", value)), "")


def _files(key: str, value: Any, about: Mapping[str, Any] | None = None) -> Iterator[_File]:
    """Yield the files that a value names: a text, a list, or objects with a path."""
    if isinstance(value, str):
        if value.strip().startswith("["):
            value = literal(value.strip())
        if isinstance(value, str):
            if value.strip() not in ("", "None", "nan", "null"):  # nulls in a file of strings
                path = value.strip().removeprefix("file://")
                if (
                    key not in MAYBE_KEYS
                    or PurePosixPath(path).suffix.lower() in VIDEO_SUFFIXES | IMAGES
                ):
                    yield _File(path, about or {})
            return
    if isinstance(value, list | tuple):
        for part in value:
            if isinstance(part, list | tuple) and len(value) > 1:
                raise BadValue(f"a list in a list of media files under {key}: {short(part)}")
            yield from _files(key, part, about)
    elif isinstance(value, Mapping):
        names = ("path", "url", "src", "file", "filename", key, key.removesuffix("s"), *MEDIA_KEYS)
        inner = next((value[k] for k in names if not blank(value.get(k))), None)
        if inner is None and not blank(value.get("bytes")):
            raise BadValue(
                f"the media are inside the file, under {key}.bytes: save them as files and give "
                "their paths"
            )
        if not isinstance(inner, str | Mapping | None):
            raise BadValue(f"no media file under {key}: {short(value)}")
        yield from _files(key, inner, {**(about or {}), **value})
    elif not blank(value):
        raise BadValue(f"a number instead of a media file under {key}: {short(value)}")


def _own_window(file: _File) -> dict[str, float]:
    """Return the bounds that a record gives beside one file."""
    window = read_window(file.about)
    rate = file.about.get("fps")
    if not PurePosixPath(file.path).suffix and isinstance(rate, int | float) and rate > 0:
        window["fps"] = float(rate)
    return window
