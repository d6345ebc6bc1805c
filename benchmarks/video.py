"""Time of `p2r.video.sample_frames` beside decoding the whole file with PyAV.

    python benchmarks/video.py [FILE …] [--frames 16] [--rounds 15] [--json]

The other side is a typical script: open the file with PyAV, decode every frame, keep the sampled
ones and resize them with Pillow to the same size. Without FILE, the benchmark makes three clips: a
small one as in the playground (sampled as in its recipe, and at full size), a long one and one with
1080 lines. Both sides take turns. The output has their medians and the ratio (above 1: ours is
faster), then the start time of a worker and the time of a cache hit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from p2r.video import FrameCache, sample_frames

MADE = {"small": (16, 224, 224), "long": (3000, 224, 224), "1080 lines": (100, 1920, 1080)}
PLAYGROUND = {"max_frames": 8, "max_pixels": 3136, "factor": 14}


def make_clip(path: Path, count: int, width: int, height: int) -> Path:
    """Write moving noise as H.264 with a keyframe every second."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8 * 2, 3), np.uint8)
    wide = noise.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "25", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            left = number * 4 % width
            picture = np.ascontiguousarray(wide[:, left : left + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def read_in_order(path: Path, indices: list[int], size: tuple[int, int]) -> np.ndarray:
    """Sample as a typical script does; `size` is (width, height)."""
    chosen = set(indices)
    with av.open(str(path)) as container:
        pictures = [
            np.asarray(Image.fromarray(frame.to_ndarray(format="rgb24")).resize(size))
            for index, frame in enumerate(container.decode(video=0))
            if index in chosen
        ]
    return np.stack(pictures)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def compare(path: Path, rounds: int, **settings: int) -> dict[str, Any]:
    found = sample_frames(path, **settings)
    size = found.shape[2], found.shape[1]
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: sample_frames(path, **settings)))
        theirs.append(seconds(lambda: read_in_order(path, found.indices, size)))
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "frames": found.total_frames,
        "through": found.decoder,
        "ours_ms": round(mine * 1e3, 1),
        "pyav_ms": round(other * 1e3, 1),
        "ratio": round(other / mine, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = {path.name: path for path in options.files} or {
            name: make_clip(Path(folder) / f"{name}.mp4", *shape) for name, shape in MADE.items()
        }
        any_clip = next(iter(clips.values()))
        start = seconds(lambda: sample_frames(any_clip, 1))
        rows = {
            name: compare(path, options.rounds, max_frames=options.frames)
            for name, path in clips.items()
        }
        if "small" in clips:
            rows["small, to 56 x 56"] = compare(clips["small"], options.rounds, **PLAYGROUND)
        cache = FrameCache()
        cache.get(any_clip)
        hit = statistics.median(seconds(lambda: cache.get(any_clip)) for _ in range(200))
    if options.json:
        found = {"clips": rows, "once_per_process_s": start, "cache_hit_ms": hit * 1e3}
        print(json.dumps(found))
        return
    print(f"{'clip':<24}{'frames':>7}{'through':>8}{'ours ms':>10}{'PyAV ms':>10}{'ratio':>8}")
    for name, row in rows.items():
        frames, through, ours, theirs, ratio = row.values()
        print(f"{name:<24}{frames:>7}{through:>8}{ours:>10}{theirs:>10}{ratio:>8}")
    print(f"once per process: {start:.2f} s; a cache hit: {hit * 1e3:.3f} ms")


if __name__ == "__main__":
    main()
