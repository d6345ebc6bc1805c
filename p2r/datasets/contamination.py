"""Find clips of a training file that a benchmark also has, by perceptual hashes of their frames.

A frame's hash has one bit per pair of neighbours on a 9 x 8 grey copy: is the right one brighter
(dHash)? Re-encoding, scaling and small changes of colour flip few bits. Frames of one colour have
no bits and are left out. A clip of a benchmark counts as found if enough of its frames are near a
frame of one training clip. Cut or sped-up copies are found as long as they share frames; mirrored
or cropped ones are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from p2r.errors import DataError, UserError
from p2r.files.media import resolve_media
from p2r.formats import read_questions
from p2r.records import Medium, Question
from p2r.video import sample_frames

FRAMES = 32  # per clip
BITS = 6  # hashes that differ in at most so many of 64 bits are near
SHARE = 0.5  # of a benchmark clip's frames that must be near frames of one training clip
LEAST_CONTRAST = 8.0  # standard deviation of the grey values, of 255
_PIXELS = 256 * 256


@dataclass(frozen=True)
class Overlap:
    """A benchmark clip and the training clip that shares the largest part of its frames."""

    benchmark: str
    training: str
    share: float


def hash_frames(frames: np.ndarray) -> np.ndarray:
    """Return the distinct hashes (uint64) of RGB frames (T, H, W, 3), without flat frames."""
    hashes = set()
    for frame in frames:
        small = Image.fromarray(frame).convert("L").resize((9, 8), Image.Resampling.BOX)
        grey = np.asarray(small, dtype=np.int16)
        if grey.std() >= LEAST_CONTRAST:
            bits = np.packbits((grey[:, 1:] > grey[:, :-1]).reshape(-1))
            hashes.add(int.from_bytes(bits.tobytes(), "big"))
    return np.array(sorted(hashes), dtype=np.uint64)


def hash_clip(medium: Medium, root: Path) -> np.ndarray:
    """Return the hashes of a video, or of the part of it that a question is about, or an image."""
    path = resolve_media(root, medium.path)
    return hash_frames(sample_frames(path, FRAMES, _PIXELS, **medium.window).frames)


def find_overlaps(
    training: Iterable[tuple[str, np.ndarray]],
    benchmark: Iterable[tuple[str, np.ndarray]],
    share: float = SHARE,
    bits: int = BITS,
) -> list[Overlap]:
    """Return the benchmark clips that are in the training clips, the largest share first."""
    clips = [(name, hashes) for name, hashes in training if len(hashes)]
    if not clips:
        return []
    joined = np.concatenate([hashes for _, hashes in clips])
    starts = np.cumsum([0, *(len(hashes) for _, hashes in clips[:-1])])
    found = []
    for name, hashes in benchmark:
        if not len(hashes):
            continue
        near = np.bitwise_count(hashes[:, None] ^ joined[None, :]) <= bits
        shares = np.logical_or.reduceat(near, starts, axis=1).mean(axis=0)
        best = int(shares.argmax())
        if shares[best] >= share:
            found.append(Overlap(name, clips[best][0], float(shares[best])))
    return sorted(found, key=lambda overlap: -overlap.share)


def check_contamination(
    training: Path,
    benchmark: Path,
    training_root: Path | None = None,
    benchmark_root: Path | None = None,
    share: float = SHARE,
) -> dict[str, Any]:
    """Compare the clips of two question files; return counts, unreadable clips and overlaps.

    Each distinct clip is decoded once. A clip that cannot be read is counted with its reason.
    Paths of clips are relative to a root (default: the folder that is given, or the folder of a
    file). Raises `UserError` if no clip of one side can be read.
    """
    unreadable: dict[str, str] = {}
    clips = []
    for path, given in ((training, training_root), (benchmark, benchmark_root)):
        root = given or (path if path.is_dir() else path.parent)
        lost: dict[str, str] = {}
        clips.append(list(_hashed(path, root, lost)))
        if not clips[-1]:
            reason = next(iter(lost.values()), "it names no clips")
            raise UserError(
                f"no clip of {path} can be read below {root}: {reason}. Give the folder of its "
                "clips: --data-root for the first file, --benchmark-root for the second"
            )
        unreadable |= lost
    overlaps = find_overlaps(clips[0], clips[1], share)
    return {
        "training_clips": len(clips[0]),
        "benchmark_clips": len(clips[1]),
        "unreadable": unreadable,
        "flat": sum(not len(hashes) for part in clips for _, hashes in part),
        "share": share,
        "overlaps": [vars(overlap) for overlap in overlaps],
    }


def _hashed(path: Path, root: Path, unreadable: dict[str, str]) -> Iterator[tuple[str, np.ndarray]]:
    for name, medium in _media(read_questions(path)).items():
        try:
            yield name, hash_clip(medium, root)
        except DataError as error:
            unreadable[name] = str(error)


def _media(questions: Iterable[Question]) -> dict[str, Medium]:
    """Return the distinct media of some questions, by path and bounds."""
    found: dict[str, Medium] = {}
    for question in questions:
        for medium in question.media:
            bounds = "".join(f" {key}={value:g}" for key, value in medium.window.items())
            found.setdefault(medium.path + bounds, medium)
    return found
