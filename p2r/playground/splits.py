"""The playground's splits: questions about scenes rendered to real mp4 files.

The scenes of the splits are disjoint by seed, and disjoint from those the shipped models were
pre-trained on. The test split is for evaluation alone.
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
from p2r.playground.language import ask
from p2r.playground.world import FPS, render, sample_scene, ticks
from p2r.records import Question

# First seed of each split; pre-training draws from 90,000,000 on.
SPLITS = {"train": 0, "validation": 10_000_000, "test": 20_000_000}
SOURCE = "playground"


def make_question(split: str, index: int) -> Question:
    """Question `index` of a split: a pure function of both. `meta` holds the scene's truth."""
    if split not in SPLITS:
        raise UserError(f"no split {split!r}: choose one of {', '.join(SPLITS)}")
    seed = SPLITS[split] + index
    scene = sample_scene(seed)
    asked = ask(scene, random.Random(f"ask {seed}"))
    return Question(
        id=f"{split}-{index:05d}",
        problem=asked.problem,
        options=asked.options,
        problem_type=asked.problem_type,
        path=f"media/{split}-{index:05d}.mp4",
        answer=asked.answer,
        source=SOURCE,
        meta={"seed": seed, "scene": scene.to_dict()},
    )


def write_split(folder: Path, split: str, count: int) -> Path:
    """Write `count` questions and their videos; returns `folder/questions.jsonl`.

    Resumable: videos that are there are kept, and the file of questions is written last.
    """
    if count > 10_000_000:
        raise UserError(f"{count} scenes asked of {split}: a split has 10,000,000 at most")
    media = folder / "media"
    media.mkdir(parents=True, exist_ok=True)
    questions = [make_question(split, index) for index in range(count)]
    for question in tqdm(questions, desc=f"videos of {split}", unit="video", disable=None):
        path = folder / question.path
        if not path.exists():
            with draft_of(path) as draft:
                write_video(draft, render(sample_scene(question.meta["seed"]), ticks()), FPS)
    written = folder / "questions.jsonl"
    write_text(written, "".join(json.dumps(q.model_dump(mode="json")) + "\n" for q in questions))
    return written


def write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    """Write uint8 (T, H, W, 3) frames as H.264 in mp4."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast", "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
