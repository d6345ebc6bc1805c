"""Small pictures of clips for lists and cards: decoded once, then kept on disk."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from p2r.browser.media_view import encode_image
from p2r.errors import StoreError
from p2r.files.disk_cache import DiskCache, cache_folder
from p2r.video import FrameCache

# The first, the middle and the last frame. A picture is as large as the largest card.
_SETTINGS = {"max_frames": 3, "max_pixels": 320 * 240, "factor": 2}
_MEMORY_BYTES, _DISK_BYTES = 2**24, 2**28


class Thumbnails:
    """The pictures by file and window. Threads and OS processes share those on disk."""

    def __init__(self) -> None:
        # It keeps two threads from decoding one file twice, and remembers damaged files.
        self._frames = FrameCache(max_bytes=_MEMORY_BYTES)
        self._disk: DiskCache | None = None
        with suppress(StoreError):  # the user has no home folder
            self._disk = DiskCache(cache_folder() / "thumbnails", ".img", _DISK_BYTES)

    def get(self, path: Path, window: Mapping[str, float]) -> tuple[str, bytes]:
        """Return "png" or "jpeg", and a frame of a clip in that format.

        It is the frame with the most contrast among three, because one of them may be black. Raises
        `VideoError` for a damaged file.
        """
        settings = {**_SETTINGS, **window}
        key = self._frames.key(path, settings)
        kept = self._disk and self._disk.read(key, Path.read_bytes)
        if kept:
            return "png" if kept.startswith(b"\x89PNG") else "jpeg", kept
        frames = self._frames.get(path, **settings).frames
        kind, data = encode_image(Image.fromarray(max(frames, key=np.std)))
        if self._disk:
            self._disk.write(key, lambda file: file.write(data))
        return kind, data
