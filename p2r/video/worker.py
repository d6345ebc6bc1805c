"""What runs in a decoding process: files in, sampled frames out. `video_process` starts it.

Pictures are read by Pillow (`read_picture`), videos through decord or PyAV (`video_decode`).
"""

from __future__ import annotations

import json
import re
import signal
import warnings
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from p2r.video.decode import Limits, Unreadable, fit, read_video
from p2r.video.frames import uniform_indices

PICTURES = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
PICTURE_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG|BM|RIFF....WEBP|II\*\0|MM\0\*|P[1-6]\s|....ftypavi[fs]", re.DOTALL
)
SPARE = 10  # seconds beyond the time limit after which a worker without a parent ends itself


def main(descriptor: int) -> None:
    """Answer requests until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    connection = Connection(descriptor)
    say = partial(_send, connection)
    say({"stage": "ready"})
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        # If the parent is killed while a decoder hangs here, nobody else ends this process.
        signal.setitimer(signal.ITIMER_REAL, request.pop("timeout") + SPARE)
        try:
            meta, frames = read(say, **request)
            pixels = np.ascontiguousarray(frames)
            say(meta | {"shape": pixels.shape})
            connection.send_bytes(memoryview(pixels).cast("B"))
        except Unreadable as error:
            say({"reason": str(error)})
        except Exception as error:  # any fault of a decoder is the file's, and the worker goes on
            say({"reason": f"{type(error).__name__}: {error}"})
        signal.setitimer(signal.ITIMER_REAL, 0)


def _send(connection: Connection, message: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


def read(
    say: Any, path: str, max_frames: int, max_pixels: int, factor: int, decord: bool = True
) -> tuple[dict[str, Any], np.ndarray]:
    """The fields of `p2r.video.Frames` that the file tells, and the pixels (T, H, W, 3)."""
    limits = Limits(max_pixels, factor)
    with open(path, "rb") as file:
        picture = PICTURE_MAGIC.match(file.read(16))
    if picture:
        return read_picture(path, max_frames, limits)
    return read_video(path, max_frames, limits, decord, lambda stage: say({"stage": stage}))


def read_picture(path: str, max_frames: int, limits: Limits) -> tuple[dict[str, Any], np.ndarray]:
    """A picture as one frame, an animated WebP or PNG as a video."""
    frames, times, now = [], [], 0.0
    try:
        with Image.open(path, formats=PICTURES) as image:
            animated = image.format in ("WEBP", "PNG") and getattr(image, "n_frames", 1) > 1
            total = image.n_frames if animated else 1
            chosen = uniform_indices(total, max_frames)
            for position in range(total):
                image.seek(position)
                image.load()
                if position in chosen:
                    frames.append(_fit_picture(image, limits))
                    times.append(round(now, 6))
                now += image.info.get("duration", 0) / 1000 if animated else 0
    except Image.UnidentifiedImageError:
        raise Unreadable("the picture's header is damaged, or its kind is unknown") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unreadable(f"the picture is too large: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable(f"the picture is damaged: {error}") from None
    meta = {
        "timestamps": times,
        "indices": chosen,
        "fps": round(total / now, 6) if now > 0 else 1.0,
        "duration": round(now, 6),
        "total_frames": total,
        "decoder": "image",
    }
    return meta, np.stack(frames)


def _fit_picture(image: Image.Image, limits: Limits) -> np.ndarray:
    """Upright RGB of the fitting size; what is transparent shows white, as in Qwen's reader."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8, not scale them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    height, width = fit(image.height, image.width, limits)
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
