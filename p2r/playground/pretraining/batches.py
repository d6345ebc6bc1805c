"""Encodes examples of a stage of pre-training, and makes its batches."""

from __future__ import annotations

import random
from typing import Any

import torch

from p2r import data
from p2r.playground.drawing import draw, draw_strange
from p2r.playground.pretraining.curriculum import Stage, draw_maker
from p2r.playground.pretraining.places import visual_tokens
from p2r.playground.pretraining.pointing import Points, look_nowhere, points_of
from p2r.playground.second.examples import Example, style_of
from p2r.playground.tiny_model import MERGE, PATCH

CELL = PATCH * MERGE  # pixels per side of a visual token


def make_batch(
    stage: Stage, processor: Any, first: int, step: int
) -> tuple[dict[str, torch.Tensor], list[Points]]:
    """Return the inputs of a step, and where its rows should look."""
    make = draw_maker(stage, step)[1]
    seeds = range(first + step * stage.batch, first + (step + 1) * stage.batch)
    rows, points = zip(
        *(encode(processor, make(seed), stage, random.Random(f"draw {seed}")) for seed in seeds),
        strict=True,
    )
    return data.collate_examples(rows, processor.tokenizer.pad_token_id), list(points)


def encode(
    processor: Any, example: Example, stage: Stage, rng: random.Random
) -> tuple[dict[str, Any], Points]:
    """Return the inputs and labels of an example, and where the heads should look.

    The given beginning of a response has no labels. While a response describes a video, the heads
    look at it. Without a video they look nowhere. While the model thinks, they are free.
    """
    frames = None
    if example.scene is not None:
        strange = rng.random() < stage.strange
        frames = (
            draw_strange(example.scene, rng) if strange else draw(example.scene, rng, stage.scale)
        )
    style = style_of(example.question, rng, example.response)
    row = data.encode_example(processor, example.question, frames, example.response, style)
    first = next(place for place, label in enumerate(row["labels"]) if label != -100)
    points: Points = {}
    if example.scene is None or frames is None:
        points = look_nowhere(range(first, len(row["labels"])))
    elif not example.given:
        told = example.response.partition("</observation>")[0]
        length = len(processor.tokenizer(told, add_special_tokens=False)["input_ids"])
        height, width = (side // CELL for side in frames.frames.shape[1:3])
        objects = visual_tokens(example.scene, height, width)
        places = range(first, first + length)
        points = points_of(row["input_ids"], places, objects, processor.tokenizer)
    if example.given:
        given = len(processor.tokenizer(example.given, add_special_tokens=False)["input_ids"])
        row["labels"][first : first + given] = [-100] * given
    return row, points
