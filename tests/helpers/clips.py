"""Small clips whose every frame shows its own number, and the frames of any clip by brute force."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 10


def numbered(number: int, width: int, height: int) -> np.ndarray:
    """A picture whose upper half shows `number` as black and white bars; the lower half is red."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[height // 2 :, :, 0] = 200
    for bit in range(BITS):
        if number >> bit & 1:
            picture[: height // 2, bit * width // BITS : (bit + 1) * width // BITS] = 255
    return picture


def read_number(picture: np.ndarray) -> int:
    height, width = picture.shape[:2]
    bars = [picture[height // 4, (2 * bit + 1) * width // (2 * BITS)] for bit in range(BITS)]
    return sum((int(bar.mean()) > 128) << bit for bit, bar in enumerate(bars))


def write_clip(
    path: Path,
    count: int = 40,
    *,
    size: tuple[int, int] = (160, 120),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 10,
    turned: int = 0,
    matrix: list[int] | None = None,
    aspect: Fraction | None = None,
    times: Callable[[int], int] | None = None,
    **options: str,
) -> Path:
    """Write frames 0 … count - 1; `times` gives their times in milliseconds.

    `aspect` is the width of a pixel divided by its height.
    """
    muxing = {"movflags": options.pop("movflags")} if "movflags" in options else {}
    with same_priority(), av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if turned:
            stream.set_display_rotation(turned)
        if matrix:
            stream.set_display_matrix(matrix)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(number, *size), format="rgb24")
            if times:
                frame.pts, frame.time_base = times(number), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@contextmanager
def same_priority() -> Iterator[None]:
    """The AV1 encoder makes the thread of root that calls it a real-time one. Whatever that thread
    starts later, a browser say, would be one too, and the machine would do nothing else.
    """
    try:
        yield
    finally:
        if hasattr(os, "sched_setscheduler"):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def decode_all(path: Path) -> list[tuple[float | None, np.ndarray]]:
    """Time and upright picture of every frame until the first fault: the truth, the slow way."""
    found = []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(video=0):
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                found.append((frame.time, pixels))
        except av.FFmpegError:
            pass
    return found
