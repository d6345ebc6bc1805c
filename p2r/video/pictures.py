"""Read pictures with Pillow: one picture, an animated one, or a folder of numbered pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from p2r.video.folder import list_pictures
from p2r.video.frames import fit_size
from p2r.video.sampling import Unreadable, Wanted, choose_frames

PICTURES = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
PICTURE_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG|BM|RIFF....WEBP|II\*\0|MM\0\*|P[1-6]\s|....ftypavi[fs]", re.DOTALL
)
ANIMATED = ("WEBP", "PNG", "GIF", "AVIF")  # their files may hold several frames
_TICK = 0.1  # seconds: the time of a frame that names none, as browsers show it

Answer = tuple[dict[str, Any], np.ndarray]


def is_animated(path: str | Path) -> bool:
    """Return whether a file is a picture with several frames. It reads little of the file."""
    try:
        with Image.open(path, formats=ANIMATED) as image:
            return getattr(image, "n_frames", 1) > 1
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def read_picture(path: str, wanted: Wanted) -> Answer:
    """Read a picture as one frame, an animated picture as a video."""
    with _reasons(), Image.open(path, formats=PICTURES) as image:
        if image.format not in ANIMATED or getattr(image, "n_frames", 1) == 1:
            image.load()
            return _describe([0.0], [0], 1.0, 0.0), _fit(image, wanted)[None]
        times, end = [], 0.0
        for position in range(image.n_frames):
            image.seek(position)
            image.load()
            times.append(round(end, 6))
            end += image.info.get("duration", 0) / 1000 or _TICK
        chosen, note = choose_frames(times, wanted)
        frames = []
        for position in range(image.n_frames):  # in order: most frames change the one before
            image.seek(position)
            image.load()
            if position in chosen:
                frames.append(_fit(image, wanted))
    return _describe(times, chosen, len(times) / end, end, note), np.stack(frames)


def read_folder(path: str, wanted: Wanted) -> Answer:
    """Read a folder of numbered pictures as a video of `wanted.fps` frames per second."""
    files = list_pictures(path)
    if not files:
        raise Unreadable("it is a folder without numbered pictures")
    times = [round(index / wanted.fps, 6) for index in range(len(files))]
    readable, fault, frames = list(range(len(files))), "", None
    while frames is None:
        inside, note = choose_frames([times[k] for k in readable], wanted, damaged=bool(fault))
        if not inside:
            raise Unreadable(fault)
        chosen = [readable[k] for k in inside]
        try:
            frames = _read_all([files[k] for k in chosen], wanted)
        except _BadPicture as error:
            fault = str(error)
            readable.remove(chosen[error.place])
    if fault:
        note = f"{len(files) - len(readable)} of {len(files)} pictures skipped: {fault}"
    return _describe(times, chosen, wanted.fps, len(files) / wanted.fps, note), np.stack(frames)


class _BadPicture(Exception):
    """A picture of a folder that cannot be read; `place` is its place in the list of files."""

    def __init__(self, reason: str, place: int) -> None:
        super().__init__(reason)
        self.place = place


def _read_all(files: list[Path], wanted: Wanted) -> list[np.ndarray]:
    """Return the pixels of all files, in the size of the first. Raises `_BadPicture`."""
    frames: list[np.ndarray] = []
    for place, file in enumerate(files):
        try:
            with _reasons(file.name), Image.open(file, formats=PICTURES) as image:
                frames.append(_fit(image, wanted, frames[0].shape[:2] if frames else None))
        except Unreadable as error:
            raise _BadPicture(str(error), place) from None
    return frames


def _describe(
    times: list[float], chosen: list[int], fps: float, duration: float, note: str = ""
) -> dict[str, Any]:
    return {
        "timestamps": [times[index] for index in chosen],
        "indices": chosen,
        "fps": round(fps, 6),
        "duration": round(duration, 6),
        "total_frames": len(times),
        "decoder": "image",
        "note": note,
    }


@contextmanager
def _reasons(name: str = "") -> Iterator[None]:
    """Turn the errors of Pillow into `Unreadable`; `name` is a picture in a folder."""
    what = f"the picture {name}" if name else "the picture"
    try:
        yield
    except Image.UnidentifiedImageError:
        reason = f"the header of {what} is damaged, or its format is unknown"
        raise Unreadable(reason) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unreadable(f"{what} is too large: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable(f"{what} is damaged: {error}") from None


def _fit(image: Image.Image, wanted: Wanted, size: tuple[int, ...] | None = None) -> np.ndarray:
    """Return upright RGB of the right size. Transparent parts become white, as in Qwen's reader."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8, not scale them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    height, width = size or fit(image.height, image.width, wanted)
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))


def fit(height: int, width: int, wanted: Wanted) -> tuple[int, int]:
    """Return `fit_size`. Raises `Unreadable` for a frame with an impossible shape."""
    try:
        return fit_size(height, width, wanted.max_pixels, wanted.factor)
    except ValueError as error:
        raise Unreadable(str(error)) from None
