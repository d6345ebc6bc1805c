"""Find the bounds of clips in a raw record, in seconds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from p2r.formats.values import BadValue, blank, literal, one, short, usual_keys
from p2r.records import Medium

# The keys of the bounds of a clip: a pair of keys, or one key with both bounds. Keys that can hold
# an answer about time (timestamps, segment) are left out.
_UNIT = (
    r"(?:_?(?:time|timestamp|secs?|seconds?|s|offset))?"
    r"(?P<unit>_?(?:ms|msecs?|milliseconds?)|_frames?(?:_id|_idx|_index)?)?"
)
_WHOSE = r"(?:(?:video|clip|segment|t|time)_)?"
_START = re.compile(rf"{_WHOSE}(?:start|begin){_UNIT}")
_END = re.compile(rf"{_WHOSE}end{_UNIT}")
BOUND_KEYS = (
    *("clip", "clips", "bound", "bounds", "clip_bounds", "video_bounds", "time_range"),
    *("clip_range", "clip_interval", "clip_time", "clip_times", "clip_timestamps", "video_segment"),
)


def read_window(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the bounds of the clip, `start` and `end` in seconds. Raises BadValue."""
    pair = _bounds(record)
    if pair is None:
        return {}
    pair = one(pair)
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise BadValue(f"the bounds of the clip are not a start and an end: {short(pair)}")
    return _window(*pair)


def _bounds(record: Mapping[str, Any]) -> Any:
    """Return the value that holds the bounds of the clip or the clips; None if there are none."""
    record = usual_keys(record)
    if values := _bound_pair(record):
        lists = all(isinstance(value, list | tuple) for value in values)
        same = lists and len(values[0]) == len(values[1]) > 1
        return list(zip(*values, strict=True)) if same else [*map(one, values)]
    for key in BOUND_KEYS:
        value = record.get(key)
        if isinstance(value, str):
            value = _interval(value)
        if isinstance(value, Mapping):
            value = _bound_pair(value)
        if isinstance(value, list | tuple) and value:
            return value
    return None


def _bound_pair(record: Mapping[str, Any]) -> list[Any] | None:
    """Return the start and the end under keys such as start_time and end_time; None if absent.

    Seconds count before milliseconds, and these before frames, which need the key fps.
    """
    found: dict[str, dict[str, Any]] = {"": {}, "ms": {}, "frame": {}}
    for key, value in record.items():
        for name, pattern in (("start", _START), ("end", _END)):
            if not _absent(value) and (match := pattern.fullmatch(key)):
                unit = match["unit"] or ""
                kind = "frame" if "frame" in unit else "ms" if unit else ""
                found[kind].setdefault(name, value)
    kinds = [kind for kind, bounds in found.items() if bounds]
    if not kinds:
        return None
    kind = kinds[0]
    bounds = [found[kind].get(name) for name in ("start", "end")]
    if kind == "":
        return bounds
    rate = record.get("fps")
    if kind == "ms":
        rate = 1000
    elif not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise BadValue(f"the bounds of the clip are in frames, {bounds}: give seconds, or fps too")
    return [None if bound is None else seconds_of(bound) / rate for bound in bounds]


_TIME = r"\d[\d:.,]*\s*(?:s|secs?|seconds?)?"
_INTERVAL = re.compile(rf"\s*({_TIME})\s*(?:-+>?|–|—|~|to|,)\s*({_TIME})\s*")


def _interval(text: str) -> Any:
    """Return the value of a text: a list, or a start and an end as in "00:12-00:20"."""
    value = literal(text.strip())
    if isinstance(value, str) and (match := _INTERVAL.fullmatch(value)):
        return [match[1], match[2]]
    return value


def add_windows(record: Mapping[str, Any], media: Sequence[Medium]) -> None:
    """Add the bounds of the record to its media: one pair, or one for each video or medium."""
    bounds = _bounds(record)
    if bounds is None:
        return
    videos = [medium for medium in media if medium.data_type == "video"] or list(media)
    if len(videos) == 1 and not (len(media) > 1 and len(bounds) == len(media) and _pairs(bounds)):
        pairs, bounded = [read_window(record)], videos
    elif _pairs(bounds) and len(bounds) in (len(videos), len(media)):
        bounded = videos if len(bounds) == len(videos) else list(media)
        pairs = [{} if blank(pair) else read_window({"clip": pair}) for pair in bounds]
    else:
        raise BadValue(
            f"bounds of a clip for {len(videos)} videos, {short(bounds)}: give one pair of bounds "
            "for each video"
        )
    for medium, window in zip(bounded, pairs, strict=True):
        if window:
            medium.start, medium.end = window.get("start"), window.get("end")


def _pairs(bounds: Any) -> bool:
    return all(blank(pair) or isinstance(pair, list | tuple | Mapping) for pair in bounds)


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


_SECONDS = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d+)?)\s*(?:s|secs?|seconds?)?")
_WORDS = re.compile(r"(?:(\d+)\s*h\s*)?(?:(\d+)\s*m(?:in)?\s*)?(?:(\d+(?:\.\d+)?)\s*s(?:ec)?)?")
_MILLISECONDS = re.compile(r"(\d+(?:\.\d+)?)\s*(?:ms|msecs?|milliseconds?)")


def seconds_of(value: Any) -> float:
    """Return a time in seconds: a number, "12.5", "12.5 s", "1500 ms", "1:02.5", "1m2s"."""
    if isinstance(value, str):
        text = value.strip().lower()
        if match := _MILLISECONDS.fullmatch(text):
            return float(match[1]) / 1000
        if match := _SECONDS.fullmatch(text) or (_WORDS.fullmatch(text) if text else None):
            hours, minutes, seconds = (float((p or "0").replace(",", ".")) for p in match.groups())
            return 3600 * hours + 60 * minutes + seconds
    elif isinstance(value, int | float) and 0 <= value < math.inf:
        return float(value)
    raise BadValue(f"the bounds of the clip are not times in seconds: {short(value)}")
