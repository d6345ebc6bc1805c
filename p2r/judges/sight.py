"""Reads the frames that a multimodal judge sees, from the media of a question."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from p2r.files.media import resolve_media
from p2r.judges.pictures import FRAMES, PIXELS, Picture
from p2r.records import Medium, Question
from p2r.video import FrameCache, Frames
from p2r.video.folder import media_state

FACTOR = 28
QUALITY = 90
KEPT = 256  # media whose pictures stay in memory


class Sight:
    """Reads the frames that a judge sees. Threads may share it.

    `root`: the media folder. `frames`: the most frames of a video, evenly spaced. `pixels`: the
    most pixels of a frame.
    """

    def __init__(self, root: Path, frames: int = FRAMES, pixels: int = PIXELS) -> None:
        self.root = root
        self.settings = {"max_frames": frames, "max_pixels": pixels, "factor": FACTOR}
        self._frames = FrameCache(max_bytes=2**27)
        self._show = lru_cache(KEPT)(self._make)

    def pictures(self, question: Question) -> tuple[Picture, ...]:
        """Return the frames of all media of a question. Raises `MediaError` and `VideoError`."""
        return tuple(p for medium in question.media for p in self._read(question, medium)[0])

    def digest(self, question: Question) -> str:
        """Return a hash of the pixels and the times of all frames that the judge sees."""
        return " ".join(self._read(question, medium)[1] for medium in question.media)

    def _read(self, question: Question, medium: Medium) -> tuple[tuple[Picture, ...], str]:
        path = resolve_media(self.root, medium.path)
        return self._show(medium.model_dump_json(), path, media_state(path))

    def _make(self, medium_json: str, path: Path, state: Any) -> tuple[tuple[Picture, ...], str]:
        """Read a medium. `state` changes if its file changes; `FrameCache` says what is missing."""
        medium = Medium.model_validate_json(medium_json)
        frames = self._frames.get(path, **self.settings, **medium.window)
        return _to_pictures(medium, frames), _digest(frames)


def _to_pictures(medium: Medium, frames: Frames) -> tuple[Picture, ...]:
    times = ", ".join(f"{second:.3g}" for second in frames.timestamps)
    caption = f"{len(frames)} frames of a video, at {times} s, in order:"
    if medium.data_type == "image":
        caption = "An image:"
    pictures = []
    for place, frame in enumerate(frames.frames):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=QUALITY)
        height, width = frame.shape[:2]
        pictures.append(Picture(buffer.getvalue(), width, height, "" if place else caption))
    return tuple(pictures)


def _digest(frames: Frames) -> str:
    digest = hashlib.sha256(repr((frames.frames.shape, frames.timestamps)).encode())
    digest.update(frames.frames.tobytes())
    return digest.hexdigest()[:24]
