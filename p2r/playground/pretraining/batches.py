"""Encodes examples of a stage of pre-training, and makes its batches."""

from __future__ import annotations

import random
from typing import Any

import torch

from p2r import data
from p2r.playground.drawing import draw, draw_strange
from p2r.playground.pretraining.curriculum import Stage, draw_maker
from p2r.playground.second.examples import Example, style_of


def make_batch(stage: Stage, processor: Any, first: int, step: int) -> dict[str, torch.Tensor]:
    """Return the inputs of a step."""
    make = draw_maker(stage, step)[1]
    seeds = range(first + step * stage.batch, first + (step + 1) * stage.batch)
    rows = [encode(processor, make(seed), stage, random.Random(f"draw {seed}")) for seed in seeds]
    return data.collate_examples(rows, processor.tokenizer.pad_token_id)


def encode(processor: Any, example: Example, stage: Stage, rng: random.Random) -> dict[str, Any]:
    """Return the inputs and labels of an example. Its given beginning has no labels."""
    frames = None
    if example.scene is not None:
        strange = rng.random() < stage.strange
        frames = (
            draw_strange(example.scene, rng) if strange else draw(example.scene, rng, stage.scale)
        )
    style = style_of(example.question, rng, example.response)
    row = data.encode_example(processor, example.question, frames, example.response, style)
    if example.given:
        given = len(processor.tokenizer(example.given, add_special_tokens=False)["input_ids"])
        start = next(place for place, label in enumerate(row["labels"]) if label != -100)
        row["labels"][start : start + given] = [-100] * given
    return row
