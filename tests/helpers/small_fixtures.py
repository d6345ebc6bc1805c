"""Fixtures of the training tests: a random tiny model on disk, real media, questions about them.

The folders are made once for all workers of pytest-xdist. Tests only read them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shared_folder import make_once
from small import small_recipe, write_video

from p2r.records import Case, Question, Trace
from p2r.template import render


def random_model(folder: Path, family: str) -> None:
    """Save a random tiny model of a family with its processor.

    It has fewer layers than the embedded models, because most of the time is a time per layer.
    """
    from p2r.playground.tiny_model import build_model, build_processor, build_tokenizer

    corpus = [render("I see two.", "So.", "2"), "How many? What is the colour of the red one?"]
    tokenizer = build_tokenizer(corpus * 4, vocabulary=320)
    build_processor(tokenizer, family).save_pretrained(folder)
    whole = build_model(tokenizer, family=family)
    config = whole.config
    config.text_config.update({"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2})
    config.vision_config.update({"depth": 2, "fullatt_block_indexes": [0, 1]})
    torch.manual_seed(0)
    model = type(whole)(config)
    model.generation_config = whole.generation_config
    model.save_pretrained(folder)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A random tiny Qwen2.5-VL with its processor, as a folder."""
    return make_once(tmp_path_factory, "model", partial(random_model, family="qwen2_5_vl"))


@pytest.fixture(scope="session")
def qwen3_folder(tmp_path_factory) -> Path:
    """A random tiny Qwen3-VL with its processor, as a folder."""
    return make_once(tmp_path_factory, "qwen3", partial(random_model, family="qwen3_vl"))


@pytest.fixture(scope="session")
def media(tmp_path_factory) -> Path:
    """Three real videos (two have the same grid), an image, and a file that is not a video."""

    def make(folder: Path) -> None:
        write_video(folder / "long.mp4", count=8, height=56, width=56, rate=2, seed=1)
        write_video(folder / "twin.mp4", count=8, height=56, width=56, rate=2, seed=2)
        write_video(folder / "short.mp4", count=4, height=28, width=56, rate=4, seed=3)
        noise = np.random.default_rng(4).integers(0, 255, (42, 28, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "still.png")
        (folder / "broken.mp4").write_bytes(b"this is no video")

    return make_once(tmp_path_factory, "media", make)


@pytest.fixture(scope="session")
def questions() -> list[Question]:
    """Questions on three videos (two have the same grid), an image and text only."""
    ask = {"problem_type": "numerical", "answer": "2"}
    return [
        Question(id="long", problem="How many?", path="long.mp4", **ask),
        Question(id="twin", problem="How many?", path="twin.mp4", **ask),
        Question(id="short", problem="How many red ones are there?", path="short.mp4", **ask),
        Question(id="still", problem="How many?", path="still.png", data_type="image", **ask),
        Question(id="text", problem="What is 1 + 1?", path="", **ask),
    ]


@pytest.fixture(scope="session")
def taught_folder(model_folder, media, questions, tmp_path_factory) -> Path:
    """The tiny model after SFT: it keeps the template; half of its observations are sufficient and
    half of its answers are correct.
    """
    make = partial(teach, model=model_folder, media=media, questions=questions)
    return make_once(tmp_path_factory, "taught", make) / "model"


def teach(folder: Path, model: Path, media: Path, questions: list[Question]) -> None:
    """Train a model by SFT on good and bad traces; its model is in `folder/model`."""
    cases = []
    for question in (questions[0], questions[2], questions[3]):
        for observation in ("I see two.", "I see."):
            for answer in ("2", "3"):
                trace = {"observation": observation, "think": "So.", "answer": answer}
                cases.append(
                    Case(question=question, trace=Trace(question_id=question.id, text="", **trace))
                )
    from p2r.training.sft import train_sft

    recipe = small_recipe(model, "sft.max_steps=32", "sft.batch_size=4", "sft.learning_rate=2e-3")
    train_sft(recipe, cases, folder, data_root=media)
