"""Choose the frames of a video: evenly over it, or inside the bounds of a clip."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNEVEN = "variable frame rate: sampled by time"
_ROUNDING = 1e-3  # seconds: annotations and containers round times to milliseconds


class Unreadable(Exception):
    """Why a file cannot be read, in one line."""


@dataclass(frozen=True)
class Wanted:
    """The sample that is asked for.

    At most `max_frames` frames of at most `max_pixels`, with sides that `factor` divides. `start`
    and `end` bound the sample, in seconds from the first frame. `fps` is the frame rate of a folder
    of pictures.
    """

    max_frames: int
    max_pixels: int
    factor: int
    start: float | None = None
    end: float | None = None
    fps: float = 3.0


def uniform_indices(total: int, count: int) -> list[int]:
    """Return at most `count` of `total` frame indices, evenly from first to last, none twice.

    This is the uniform sampling of the readers of Qwen and Video-R1: a rounded linspace over frame
    indices. The number of frames may be odd: Qwen2.5-VL's processor then repeats the last frame to
    fill a temporal patch of two.
    """
    return np.linspace(0, total - 1, min(total, count)).round().astype(int).tolist()


def adaptive_indices(frames: np.ndarray, count: int) -> list[int]:
    """Return at most `count` places of frames (N, H, W, 3), more of them where much changes.

    The first and the last frame are always chosen. Between two chosen frames lies about the same
    amount of change: the sum of the mean differences of neighbouring frames. Where nothing changes,
    the sample is even.
    """
    total = len(frames)
    if count >= total or count < 2:
        return uniform_indices(total, count)
    steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    # A small part of the mean change, or of a grey level, keeps still parts from being left out.
    steps = steps + max(0.1 * float(steps.mean()), 1e-3)
    reached = np.concatenate([[0.0], np.cumsum(steps)])
    chosen: list[int] = []
    for place, wanted in enumerate(np.linspace(0, reached[-1], count)):
        lowest = chosen[-1] + 1 if chosen else 0
        nearest = int(np.abs(reached - wanted).argmin())
        chosen.append(min(max(nearest, lowest), total - count + place))
    return chosen


def choose_frames(
    times: Sequence[float], wanted: Wanted, damaged: bool = False
) -> tuple[list[int], str]:
    """Return the indices of the frames to sample, and a note.

    `times` are the times of all frames in increasing order (seconds). Frames are even over their
    indices. If the frame rate varies so much that they would be far from even in time, the frames
    nearest to even times are returned. In a `damaged` file, whose times have gaps, frames are
    always even over the readable ones. Raises `Unreadable` if the clip starts after the end of the
    video.
    """
    if not times:
        return [], ""
    first, last = _bounds(times, wanted)
    chosen = [first + index for index in uniform_indices(last - first + 1, wanted.max_frames)]
    even = np.linspace(times[first], times[last], len(chosen))
    if damaged or len(chosen) < 2 or len(chosen) == last - first + 1:
        return chosen, ""
    allowed = max((even[1] - even[0]) / 4, (times[last] - times[first]) / (last - first))
    if np.abs(np.array([times[index] for index in chosen]) - even).max() <= allowed:
        return chosen, ""
    by_time: list[int] = []
    for place, time in enumerate(even):
        lowest = by_time[-1] + 1 if by_time else first
        highest = last - (len(even) - 1 - place)
        by_time.append(min(max(_nearest(times, time), lowest), highest))
    return by_time, UNEVEN


def _bounds(times: Sequence[float], wanted: Wanted) -> tuple[int, int]:
    """Return the first and the last frame inside the bounds of the clip."""
    if wanted.start is None and wanted.end is None:
        return 0, len(times) - 1
    start = times[0] + (wanted.start or 0.0) - _ROUNDING
    end = times[-1] if wanted.end is None else times[0] + wanted.end + _ROUNDING
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    if start > times[-1] + step:
        raise Unreadable(
            f"the clip starts at {wanted.start:g} s, after the end of the video "
            f"({times[-1] - times[0] + step:.4g} s)"
        )
    first, last = bisect_left(times, start), bisect_right(times, end) - 1
    if first > last:  # no frame begins inside: the frame that is shown at the start
        first = last = max(0, bisect_right(times, start + 2 * _ROUNDING) - 1)
    return first, last


def _nearest(times: Sequence[float], time: float) -> int:
    after = min(bisect_left(times, time), len(times) - 1)
    before = max(0, after - 1)
    return before if time - times[before] <= times[after] - time else after
