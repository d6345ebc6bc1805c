"""The code that runs in a decoding worker: it reads a file and returns sampled frames.

Pillow reads pictures (`p2r.video.pictures`), decord or PyAV reads videos (`p2r.video.decode`).
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from PIL import Image

from p2r.video.decode import read_video
from p2r.video.pictures import PICTURE_MAGIC, read_folder, read_picture
from p2r.video.sampling import Unreadable, Wanted
from p2r.workers import Answer, Say


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
    say: Say, path: str, decord: bool = True, **wanted: Any
) -> tuple[dict[str, Any], np.ndarray]:
    """Return the fields of `p2r.video.Frames` that come from the file, and pixels (T, H, W, 3).

    `wanted` are the fields of `p2r.video.sampling.Wanted`.
    """
    sample = Wanted(**wanted)
    if os.path.isdir(path):
        return read_folder(path, sample)
    with open(path, "rb") as file:
        picture = PICTURE_MAGIC.match(file.read(16))
    if picture:
        return read_picture(path, sample)
    return read_video(path, sample, decord, lambda stage: say({"stage": stage}))
