"""The code that runs in a decoding worker: it reads a file and returns sampled frames.

Pillow reads pictures (`read_picture`), decord or PyAV reads videos (`p2r.video.decode`).
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from p2r.video.decode import Limits, Unreadable, fit, read_video
from p2r.video.frames import uniform_indices
from p2r.workers import Answer, Say

PICTURES = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
PICTURE_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG|BM|RIFF....WEBP|II\*\0|MM\0\*|P[1-6]\s|....ftypavi[fs]", re.DOTALL
)


def start() -> Answer:
    """Prepare the worker and return the function that answers (see `p2r.workers`)."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    return answer


def answer(request: dict[str, Any], _: Any, say: Say) -> tuple[dict[str, Any], Any]:
    """Return the fields of `p2r.video.Frames` and the pixels, or the reason why there are none."""
    try:
        meta, frames = read(say, **request)
    except Unreadable as error:
        return {"reason": str(error)}, b""
    except Exception as error:  # the file is the cause of any error in a decoder
        return {"reason": f"{type(error).__name__}: {error}"}, b""
    pixels = np.ascontiguousarray(frames)
    return meta | {"shape": pixels.shape}, pixels


def read(
    say: Say, path: str, max_frames: int, max_pixels: int, factor: int, decord: bool = True
) -> tuple[dict[str, Any], np.ndarray]:
    """Return the fields of `p2r.video.Frames` that come from the file, and pixels (T, H, W, 3)."""
    limits = Limits(max_pixels, factor)
    with open(path, "rb") as file:
        picture = PICTURE_MAGIC.match(file.read(16))
    if picture:
        return read_picture(path, max_frames, limits)
    return read_video(path, max_frames, limits, decord, lambda stage: say({"stage": stage}))


def read_picture(path: str, max_frames: int, limits: Limits) -> tuple[dict[str, Any], np.ndarray]:
    """Read a picture as one frame, an animated WebP or PNG as a video."""
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
        raise Unreadable("the picture's header is damaged, or its format is unknown") from None
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
    """Return upright RGB of the right size. Transparent parts become white, as in Qwen's reader."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8, not scale them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    height, width = fit(image.height, image.width, limits)
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
