"""Open, sample, resize and cache frames of videos and pictures.

All frame sampling goes through `sample_frames`. Files are decoded in subprocess workers with a time
limit (`p2r.video.decoders`), because a damaged file can hang or crash a decoder.
"""

from __future__ import annotations

import json
import math
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from p2r.errors import VideoError
from p2r.files.atomic import replacing
from p2r.files.disk_cache import DiskCache
from p2r.video.decoders import WORKERS, DecodeFailure, decode
from p2r.video.folder import media_state
from p2r.video.sampling import adaptive_indices

MAX_FRAMES = 16
MAX_PIXELS = 128 * 28 * 28
FACTOR = 28  # Qwen2.5-VL: patches of 14 pixels, merged 2 × 2
TIMEOUT = 30.0
NO_FILE = "no such file"
PICTURES_FPS = 3.0  # of a folder of pictures, as in MVBench
MAX_ASPECT = 200  # the limit of Qwen's image and video processors


@dataclass(frozen=True, eq=False)
class Frames:
    """Sampled frames of one video or picture, and how they were sampled.

    `frames` is uint8 RGB (T, H, W, 3), upright, in order of presentation. It is shared with the
    cache, so treat it as read-only. `timestamps` (seconds, as stored in the file: a clip may start
    after 0) and `indices` (into the file's `total_frames` frames) have one entry per frame. `fps`
    and `duration` (seconds) describe the file; a picture has fps 1 and duration 0. `decoder` is
    "decord", "pyav" or "image" (also for a folder of pictures). `note` tells what is unusual, for
    example "49 of 50 frames readable: …". The last fields are the requested limits. `start` and
    `end` are the bounds of the clip in seconds from the first frame, None if there are none.
    """

    frames: np.ndarray
    timestamps: list[float]
    indices: list[int]
    fps: float
    duration: float
    total_frames: int
    decoder: str
    path: str
    note: str = ""
    max_frames: int = MAX_FRAMES
    max_pixels: int = MAX_PIXELS
    factor: int = FACTOR
    start: float | None = None
    end: float | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.frames, dtype=dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.frames.shape

    @property
    def sampled_fps(self) -> float:
        """Sampled frames per second, by their true times. For a single frame, the file's fps."""
        span = self.timestamps[-1] - self.timestamps[0]
        return (len(self) - 1) / span if span > 0 else self.fps

    def info(self) -> dict[str, Any]:
        """Return everything but the pixels as plain data, as `Trace.media` stores it."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "frames"}
        for bound in ("start", "end"):
            if known[bound] is None:
                del known[bound]
        return known | {"height": self.shape[1], "width": self.shape[2]}

    @property
    def whole_file(self) -> bool:
        """Whether the frames are an even sample of one whole file, not of a clip or a folder."""
        return self.start is None and self.end is None and not os.path.isdir(self.path)


# The frames of a question: those of its medium, one entry for each of several media, or None.
Clips = Frames | tuple[Frames, ...] | None


def clips_of(frames: Clips) -> tuple[Frames, ...]:
    """Return the frames of every medium of a question, in order."""
    if frames is None:
        return ()
    return frames if isinstance(frames, tuple) else (frames,)


# The default settings that a cached sample depends on.
_SAMPLING = {"max_frames": MAX_FRAMES, "max_pixels": MAX_PIXELS, "factor": FACTOR, "min_frames": 1}


def fit_size(
    height: int, width: int, max_pixels: int = MAX_PIXELS, factor: int = FACTOR
) -> tuple[int, int]:
    """Return the resized (height, width): multiples of `factor`, area ≤ `max_pixels`.

    This is Qwen's smart_resize with a smallest size of factor × factor, so that the processor does
    not resize again. Unlike smart_resize, it also limits the area of very long frames, whose short
    side is one factor.
    """
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(f"a frame of {width}x{height} is longer than {MAX_ASPECT}:1")
    sides = [max(factor, round(side / factor) * factor) for side in (height, width)]
    if sides[0] * sides[1] > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        sides = [max(factor, int(side / shrink / factor) * factor) for side in (height, width)]
        longest = max_pixels // min(sides) // factor * factor
        sides = [min(side, longest) for side in sides]
    return sides[0], sides[1]


def sample_frames(
    path: str | os.PathLike[str],
    max_frames: int = MAX_FRAMES,
    max_pixels: int = MAX_PIXELS,
    *,
    factor: int = FACTOR,
    min_frames: int = 1,
    start: float | None = None,
    end: float | None = None,
    fps: float = PICTURES_FPS,
    timeout: float = TIMEOUT,
) -> Frames:
    """Sample at most `max_frames` frames evenly over a local video, resized to fit `max_pixels`.

    A picture is one frame. A folder of numbered pictures is a video of `fps` frames per second. A
    clip with fewer frames gives all of them, none twice. A damaged clip gives an even sample of its
    readable frames, and a `note`. `start` and `end` (seconds from the first frame) bound the
    sample. `timeout` (seconds) limits one attempt to decode. If decord hangs or crashes, PyAV alone
    makes a second attempt.

    Raises `VideoError` if the file cannot be read, takes too long, has fewer than `min_frames`
    frames (pictures are exempt) or ends before `start`. Raises ValueError for impossible settings.
    """
    if max_frames < 1 or factor < 1 or max_pixels < factor * factor:
        raise ValueError(
            f"cannot sample {max_frames} frames of {max_pixels} pixels in multiples of {factor}: "
            f"give at least 1 frame of {factor}x{factor} = {factor * factor} pixels"
        )
    if not (start or 0) >= 0 or (end is not None and not end >= (start or 0)) or not fps > 0:
        raise ValueError(
            f"cannot sample from {start} s to {end} s at {fps} frames per second: the start must "
            "be at least 0, the end not before the start, the rate above 0"
        )
    settings: dict[str, Any] = {
        "max_frames": max_frames,
        "max_pixels": max_pixels,
        "factor": factor,
        "start": start,
        "end": end,
    }
    try:
        _check_file(path)
        request = {"path": os.path.abspath(path), "fps": fps, **settings}
        meta, pixels = decode(request, timeout)
    except DecodeFailure as failure:
        error = VideoError(path, str(failure))
        error.lost = bool(failure.lost)
        raise error from None
    found = Frames(frames=pixels, path=os.fspath(path), **meta, **settings)
    if len(found) < min_frames and found.decoder != "image":
        raise VideoError(path, f"has {found.total_frames} frames, at least {min_frames} are needed")
    return found


def _check_file(path: str | os.PathLike[str]) -> None:
    """Raise `DecodeFailure` unless `path` is a folder or a readable file that is not empty."""
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            return
        if not stat.S_ISREG(found.st_mode):
            raise DecodeFailure("it is not a regular file")
        if found.st_size == 0:
            raise DecodeFailure("the file is empty")
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        known = {FileNotFoundError: NO_FILE, PermissionError: "permission denied"}
        raise DecodeFailure(known.get(type(error), error.strerror or str(error))) from None
    except ValueError as error:  # a NUL character in the name
        raise DecodeFailure(str(error)) from None


def check_media(
    paths: Iterable[str | os.PathLike[str]],
    manifest: str | os.PathLike[str] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> list[dict[str, Any]]:
    """Check every file: return status ("have", "missing", "unreadable"), reason and content.

    Decodes the first and the last frame of each file. Returns rows in the order of `paths`.
    `manifest`: also write the rows to this file, as JSON lines.
    """
    with ThreadPoolExecutor(WORKERS) as threads:
        rows = list(threads.map(lambda path: _check_one(path, timeout), paths))
    if manifest is not None:
        with replacing(manifest) as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return rows


def _check_one(path: str | os.PathLike[str], timeout: float) -> dict[str, Any]:
    row: dict[str, Any] = {"path": os.fspath(path), "status": "have", "reason": ""}
    try:
        found = sample_frames(path, max_frames=2, timeout=timeout)
    except VideoError as error:
        status = "missing" if error.reason == NO_FILE else "unreadable"
        return row | {"status": status, "reason": error.reason}
    kept = ("total_frames", "fps", "duration", "decoder")
    return row | {"reason": found.note} | {name: getattr(found, name) for name in kept}


class FrameCache:
    """A cache of sampled frames: it decodes each file once per settings. Threads may share it.

    Memory holds the last used samples, up to `max_bytes` and `max_items`. `folder`, if given, keeps
    samples as npz files, up to `disk_bytes`. Other OS processes and runs that share the folder do
    not decode them again. A file that changes (size or time) is decoded again. The errors of bad
    files are kept in memory. If a decoder crashed or hung, the next call decodes again. `decoded`
    and `hits` count cache misses and hits.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        max_items: int | None = None,
        max_bytes: int = 2**30,
        disk_bytes: int | None = None,
    ) -> None:
        self.disk = None if folder is None else DiskCache(folder, ".npz", disk_bytes)
        self.max_items, self.max_bytes = max_items, max_bytes
        self.decoded = self.hits = 0
        self._kept: OrderedDict[str, Frames | VideoError] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}

    def get(self, path: str | os.PathLike[str], **settings: Any) -> Frames:
        """Return `sample_frames(path, **settings)`, or raise its `VideoError`, from the cache."""
        key = self.key(path, settings)
        found = self._find(key)
        if found is None:
            with self._lock:
                busy = self._busy.setdefault(key, threading.Lock())
            with busy:
                found = self._find(key)
                if found is None:
                    found = self._load(key) or self._decode_once(key, path, settings)
                    self._keep(key, found)
        if isinstance(found, VideoError):
            error = VideoError(path, found.reason)
            error.lost = found.lost
            raise error
        return replace(found, path=os.fspath(path))

    def _find(self, key: str) -> Frames | VideoError | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                self.hits += 1
        return found

    def key(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> str:
        """Return the key of a sample. It changes if the file, or a picture of a folder, changes."""
        chosen = {**_SAMPLING, **settings}
        chosen.pop("timeout", None)
        name = os.fspath(path) if "\0" in os.fspath(path) else os.path.realpath(path)
        return json.dumps([name, media_state(path), chosen], sort_keys=True)

    def _decode_once(
        self, key: str, path: str | os.PathLike[str], settings: dict[str, Any]
    ) -> Frames | VideoError:
        """Decode a file unless another OS process has done so in the meantime."""
        if self.disk is None:
            return self._decode(key, path, settings)
        with self.disk.lock(key):
            return self._load(key) or self._decode(key, path, settings)

    def _decode(
        self, key: str, path: str | os.PathLike[str], settings: dict[str, Any]
    ) -> Frames | VideoError:
        try:
            found = sample_frames(path, **settings)
        except VideoError as error:
            return error.with_traceback(None)
        finally:
            with self._lock:
                self.decoded += 1
        if self.disk is not None:
            meta = json.dumps({f.name: getattr(found, f.name) for f in fields(found)[1:]})
            self.disk.write(
                key, lambda file: np.savez(file, frames=found.frames, meta=np.array(meta))
            )
        return found

    def _load(self, key: str) -> Frames | None:
        found = None if self.disk is None else self.disk.read(key, _read_frames)
        if found is not None:
            with self._lock:
                self.hits += 1
        return found

    def _keep(self, key: str, found: Frames | VideoError) -> None:
        with self._lock:
            self._busy.pop(key, None)
            if isinstance(found, VideoError) and found.lost:
                return
            self._kept[key] = found
            self._bytes += _size(found)
            while self._kept and (
                self._bytes > self.max_bytes
                or (self.max_items is not None and len(self._kept) > self.max_items)
            ):
                self._bytes -= _size(self._kept.popitem(last=False)[1])


def _read_frames(path: Path) -> Frames:
    with np.load(path, allow_pickle=False) as stored:
        return Frames(frames=stored["frames"], **json.loads(str(stored["meta"])))


CANDIDATES = 4  # adaptive sampling reads this many times as many frames as it chooses


def sample_adaptively(cache: FrameCache, path: str | os.PathLike[str], **settings: Any) -> Frames:
    """Return at most `max_frames` frames, more of them where much changes.

    They are chosen among an even sample of `CANDIDATES` times as many frames.
    """
    max_frames = settings.pop("max_frames", MAX_FRAMES)
    found = cache.get(path, max_frames=CANDIDATES * max_frames, **settings)
    places = adaptive_indices(found.frames, max_frames)
    return replace(
        found,
        frames=found.frames[places],
        timestamps=[found.timestamps[place] for place in places],
        indices=[found.indices[place] for place in places],
        max_frames=max_frames,
    )


def _size(found: Frames | VideoError) -> int:
    return found.frames.nbytes if isinstance(found, Frames) else 0
