"""The playground's splits: questions about scenes, and their videos as mp4 files.

Each split has its own range of seeds. Pre-training of the shipped models uses another range. The
test split is only for evaluation. `generation` chooses the world: 1 (`p2r.playground.world`), or 2
(`p2r.playground.second`), which has more splits.
"""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from p2r.errors import UserError
from p2r.files.atomic import draft_of, write_text
from p2r.playground import SOURCE
from p2r.playground.language import ask, to_question
from p2r.playground.second import splits as second
from p2r.playground.second.chapters import render_any, scene_from_dict, times_of
from p2r.playground.world import FPS, render, sample_scene, ticks
from p2r.records import Question

# First seed of each split. Pre-training uses seeds from 100,000,000 on.
SPLITS = {"train": 0, "validation": 10_000_000, "test": 20_000_000}


def splits_of(generation: int) -> tuple[str, ...]:
    """Return the names of the splits of a generation."""
    return tuple(SPLITS) if generation == 1 else second.SPLITS


def make_question(split: str, index: int, generation: int = 1) -> Question:
    """Return question `index` of a split, always the same one. `meta` holds the true scene."""
    if split not in splits_of(generation):
        known = ", ".join(splits_of(generation))
        raise UserError(f"generation {generation} has no split {split!r}: choose one of {known}")
    if generation == 2:
        return second.make_question(split, index)
    seed = SPLITS[split] + index
    scene = sample_scene(seed)
    asked = ask(scene, random.Random(f"ask {seed}"))
    return to_question(
        asked,
        id=f"{split}-{index:05d}",
        path=f"media/{split}-{index:05d}.mp4",
        source=SOURCE,
        meta={"seed": seed, "scene": scene.to_dict()},
    )


def write_split(folder: Path, split: str, count: int, generation: int = 1, first: int = 0) -> Path:
    """Write `count` questions from index `first` on, and their videos; return their file.

    The file is `folder/questions.jsonl`.

    Resumable: existing videos are kept, and the file of questions is written last.
    """
    if count > 10_000_000:
        raise UserError(f"split {split} cannot have {count} scenes: ask for 10,000,000 or fewer")
    media = folder / "media"
    media.mkdir(parents=True, exist_ok=True)
    questions = [make_question(split, index, generation) for index in range(first, first + count)]
    for question in tqdm(questions, desc=f"videos of {split}", unit="video", disable=None):
        path = folder / question.path
        if not path.exists():
            with draft_of(path) as draft:
                write_video(draft, _render(question), FPS)
    written = folder / "questions.jsonl"
    write_text(written, "".join(json.dumps(q.model_dump(mode="json")) + "\n" for q in questions))
    return written


def _render(question: Question) -> np.ndarray:
    """Draw the frames of a question's video."""
    if question.meta.get("generation") == 2:
        scene = scene_from_dict(question.meta["scene"])
        return render_any(scene, times_of(scene))
    return render(sample_scene(question.meta["seed"]), ticks())


def write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    """Write uint8 frames (T, H, W, 3) as an H.264 mp4 file.

    The same frames always give the same bytes. With x264's macroblock tree, some clips had other
    bytes each time.
    """
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {
            "crf": "18",
            "preset": "veryfast",
            "threads": "1",
            "x264-params": "mbtree=0",
        }
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
