"""Changes sampled frames, for studies of robustness: covers, blurs, adds noise, drops, shuffles.

A change is written `NAME:VALUE`, and several are joined by `+`: `blur:2+noise:0.1`. Evaluation
applies the recipe's `video.eval_change` to the frames of every video and image, after sampling and
resizing. A function of the user is a change too: `FILE.py:NAME` or `package.module:NAME` takes and
returns `Frames`.

Random draws depend only on the change and the name of the file, so a run gives the same frames
every time. The changes are pure functions: they return new frames and do not change their input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath

import numpy as np
from PIL import Image, ImageFilter

from p2r.errors import UserError
from p2r.files.user_code import load_object
from p2r.video.frames import Frames

GREY = 128
Change = Callable[[Frames, float, np.random.Generator], Frames]


def occlude(frames: Frames, share: float, random: np.random.Generator) -> Frames:
    """Cover a share of the area by one grey rectangle, at the same random place in all frames."""
    _, height, width, _ = frames.shape
    rows, columns = (round(side * share**0.5) for side in (height, width))
    top, left = random.integers(height - rows + 1), random.integers(width - columns + 1)
    pixels = frames.frames.copy()
    pixels[:, top : top + rows, left : left + columns] = GREY
    return replace(frames, frames=pixels)


def blur(frames: Frames, radius: float, random: np.random.Generator) -> Frames:
    """Blur every frame by a Gaussian with this standard deviation, in pixels."""
    soft = ImageFilter.GaussianBlur(radius)
    return replace(
        frames,
        frames=np.stack([np.asarray(Image.fromarray(f).filter(soft)) for f in frames.frames]),
    )


def noise(frames: Frames, deviation: float, random: np.random.Generator) -> Frames:
    """Add Gaussian noise to every value. The deviation is a share of the range of values."""
    noisy = frames.frames + random.normal(0, 255 * deviation, frames.shape)
    return replace(frames, frames=np.clip(noisy.round(), 0, 255).astype(np.uint8))


def drop(frames: Frames, share: float, random: np.random.Generator) -> Frames:
    """Leave out a share of the frames, chosen at random; at least one frame stays."""
    count = max(1, len(frames) - round(len(frames) * share))
    return pick(frames, sorted(random.choice(len(frames), count, replace=False).tolist()))


def shuffle(frames: Frames, _: float, random: np.random.Generator) -> Frames:
    """Put the frames in random order; the times stay in place."""
    return replace(frames, frames=frames.frames[random.permutation(len(frames))])


def pick(frames: Frames, places: list[int]) -> Frames:
    """Return the frames at these places, with their times."""
    return replace(
        frames,
        frames=frames.frames[places],
        timestamps=[frames.timestamps[place] for place in places],
        indices=[frames.indices[place] for place in places],
    )


# Every change with the largest value that it takes. `shuffle` takes no value.
CHANGES: dict[str, tuple[Change, float]] = {
    "occlude": (occlude, 1.0),
    "blur": (blur, 100.0),
    "noise": (noise, 1.0),
    "drop": (drop, 1.0),
    "shuffle": (shuffle, 0.0),
}


def change_frames(frames: Frames, spec: str) -> Frames:
    """Return the changed frames ("": unchanged). Raises `UserError` for an unknown change."""
    for change, value, name in _read(spec):
        digest = hashlib.sha256(f"{name} {PurePath(frames.path).name}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        frames = change(frames, value, random)
        note = f"{frames.note}; " if frames.note else ""
        frames = replace(frames, note=f"{note}changed: {name}")
    return frames


def check_change(spec: str) -> str:
    """Return `spec`. Raises `UserError` if it has an unknown change."""
    _read(spec)
    return spec


def runs_user_code(spec: str) -> bool:
    """Return whether a change is a function of the user. Imports no code of the user."""
    return any(":" in part and part.partition(":")[0] not in CHANGES for part in spec.split("+"))


def _read(spec: str) -> list[tuple[Change, float, str]]:
    return [_read_one(part) for part in spec.split("+") if part]


def _read_one(part: str) -> tuple[Change, float, str]:
    name, colon, text = part.partition(":")
    if name not in CHANGES and colon:
        function = load_object(part)
        return (lambda frames, value, random: function(frames)), 0.0, part
    known = ", ".join(f"{n}:VALUE" if most else n for n, (_, most) in CHANGES.items())
    change, most = CHANGES.get(name, (None, 0.0))
    try:
        value = float(text) if colon else 0.0
        if change is None or bool(colon) != bool(most) or not 0 <= value <= most:
            raise ValueError
    except ValueError:
        raise UserError(
            f"unknown change of frames {part!r}: use {known} (VALUE is a share from 0 to 1; for "
            "blur, it is in pixels), or your function as FILE.py:NAME"
        ) from None
    return change, value, part
