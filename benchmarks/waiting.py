"""Measures how long a step of RL waits for its videos, with and without decoding ahead.

    python benchmarks/waiting.py
    python benchmarks/waiting.py --steps 3 --seconds 2 --json

Makes one clip for each question of the training: a playground clip at 854 × 480 pixels, 25 frames
per second and `--seconds` long, in H.264. Then it trains the tiny model on these clips twice, each
time with an empty cache of frames: `ahead` decodes the clips of the next step while a step runs,
`on demand` decodes each clip when a step needs it. Both use four video workers, and each step has
clips that no step before has seen. Four clips are opened before step 1.

`share` is the time that the steps wait for video, divided by the time of the steps, without the
first step. `decodes` is the number of decodes per clip, over the whole training.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["P2R_VIDEO_WORKERS"] = "4"

import p2r.training  # noqa: F401  isort: skip  (first: it applies the patches that TRL needs)
import av
import numpy as np
from overlap import write_questions

from p2r import data
from p2r.judges import make_judge
from p2r.records import Question
from p2r.runs import quiet_libraries, use_threads
from p2r.runs.recipe import Recipe, load_recipe
from p2r.training import grpo
from p2r.training.media import ReadAhead
from p2r.video import FrameCache

WIDTH, HEIGHT, RATE = 854, 480, 25
SETTINGS = (
    "rl.prompts_per_step=4",
    "rl.micro_batch=32",
    "rl.preflight=0",
    "video.train_frames=16",
    "video.train_pixels=28224",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=6, help="steps of each training (default 6)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each clip (default 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    recipe = load_recipe("tiny1", [*SETTINGS, f"rl.steps={options.steps}", *options.set])
    use_threads(recipe)
    quiet_libraries()
    with contextlib.redirect_stdout(sys.stderr):
        found = measure(recipe, options.seconds)
    if options.json:
        print(json.dumps(found))
        return
    for name, numbers in found.items():
        print(f"{name}: waits {numbers['share']:.1%} of {numbers['step_s']:.1f} s per step, "
              f"{numbers['decodes']:.2f} decodes per clip")  # fmt: skip


def measure(recipe: Recipe, seconds: float) -> dict[str, dict[str, float]]:
    """Return the numbers of both trainings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        questions = make_questions(recipe, folder, seconds)
        found = {"ahead": train(recipe, questions, folder, "ahead")}
        with mock.patch.object(ReadAhead, "submit", lambda self, *questions: None):
            found["on demand"] = train(recipe, questions, folder, "on demand")
    return found


def make_questions(recipe: Recipe, folder: Path, seconds: float) -> list[Question]:
    """Write questions of the playground and replace their clips by large ones."""
    questions = write_questions(recipe, folder, "train")
    for path in {question.path for question in questions}:
        enlarge(folder / path, round(seconds * RATE))
    return questions


def enlarge(path: Path, count: int) -> None:
    """Write a clip again with larger pictures and `count` frames."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    rows = np.arange(HEIGHT) * frames[0].shape[0] // HEIGHT
    columns = np.arange(WIDTH) * frames[0].shape[1] // WIDTH
    large = path.with_suffix(".large.mp4")
    with av.open(str(large), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(count):
            picture = frames[number * len(frames) // count][rows][:, columns]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    large.replace(path)


def train(recipe: Recipe, questions: list[Question], folder: Path, name: str) -> dict[str, float]:
    """Train with an empty cache; return the share of waiting, the step time and the decodes."""
    cache = FrameCache(folder / f"frames {name}", disk_bytes=2**30)
    out = folder / name
    make: Any = partial(grpo.train_grpo, judge=make_judge("oracle"), frames=cache)
    with mock.patch.object(grpo, "OPENED", recipe.rl.prompts_per_step):
        make(recipe, questions, data.resolve_model(recipe.models.base), out, data_root=folder)
    steps = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][1:]
    total = sum(step["step_time"] for step in steps)
    return {
        "share": sum(step["time/decode"] for step in steps) / total,
        "step_s": total / len(steps),
        "decodes": cache.decoded / len({question.path for question in questions}),
    }


if __name__ == "__main__":
    main()
