"""Trains the tiny models of the first world: `python -m p2r.playground.pretrain --out FOLDER`.

`p2r.playground.curriculum` lists the stages. Each stage writes its model into a folder with the
name of the stage. A stage whose folder exists is skipped: a folder appears when it is complete. The
shipped models, `teacher` and `base`, also get a `card.json` with their held-out scores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from p2r import data
from p2r.errors import UserError
from p2r.files.atomic import read_json
from p2r.playground.curriculum import (
    BATCH,
    CURRICULUM,
    FIRST_SEED,
    FIRST_SEED_OF_MODELS,
    MODELS,
    PretrainStage,
)
from p2r.playground.drawing import draw, draw_strange
from p2r.playground.examples import STYLE, corpus
from p2r.playground.held_out import score
from p2r.playground.tiny_model import build_model, build_processor, build_tokenizer

WARMUP = 50  # steps
FAMILIES = ("qwen2_5_vl", "qwen3_vl")


def train(model: Any, processor: Any, stage: PretrainStage, first: int) -> None:
    """Train a model on the examples of a stage, on the seeds from `first` on.

    Uses AdamW with a linear warm-up and a cosine schedule.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=stage.rate, weight_decay=0.01, betas=(0.9, 0.98)
    )

    def batch(step: int) -> dict[str, torch.Tensor]:
        seeds = range(first + step * BATCH, first + (step + 1) * BATCH)
        examples = [_encode(processor, stage, seed) for seed in seeds]
        return data.collate_examples(examples, processor.tokenizer.pad_token_id)

    model.train()
    start = time.time()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(batch, 0)
        for step in range(stage.steps):
            inputs = following.result()
            following = pool.submit(batch, step + 1)
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(stage, step)
            loss = model(**inputs).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if step % 50 == 0 or step == stage.steps - 1:
                pace = f"{(time.time() - start) / (step + 1):.2f} s/step"
                print(
                    f"{stage.name} {step}/{stage.steps} loss {loss.item():.4f} {pace}", flush=True
                )
    model.eval()


def _encode(processor: Any, stage: PretrainStage, seed: int) -> dict[str, torch.Tensor]:
    rng = random.Random(f"pixels {seed}")
    scene, question, response = stage.make(seed)
    style = stage.style(question, rng, response)
    frames = None
    if scene is not None and stage.strange and rng.random() < stage.strange:
        frames = draw_strange(scene, rng)
    elif scene is not None:
        frames = draw(scene, rng, stage.scale)
    return data.encode_example(processor, question, frames, response, style)


def _learning_rate(stage: PretrainStage, step: int) -> float:
    final = stage.final_rate
    decay = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * step / stage.steps))
    return stage.rate * min(1.0, (step + 1) / WARMUP) * decay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the models")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first weights")
    parser.add_argument("--family", default="qwen2_5_vl", choices=FAMILIES, help="model family")
    names = [stage.name for stage in (*CURRICULUM, *MODELS)]
    parser.add_argument("--last", default="", choices=names, help="stop after this stage")
    arguments = parser.parse_args()
    try:
        make_models(arguments.out, arguments.seed, arguments.family, arguments.last)
    except UserError as error:
        parser.error(str(error))


def make_models(out: Path, seed: int, family: str = "qwen2_5_vl", last: str = "") -> None:
    """Train every stage whose result is not in `out` yet; stop after the stage `last`.

    Raises `UserError` if `out` has a model of another family.
    """
    check_family(out, family)
    first, before = FIRST_SEED, None
    for stage in CURRICULUM:
        if not (out / stage.name).is_dir():
            if before is None:
                processor = build_processor(build_tokenizer(corpus(FIRST_SEED)), family)
                model = build_model(processor.tokenizer, seed, family)
            else:
                processor = data.load_processor(before)
                model = data.load_model(before, "float32")
            train(model, processor, stage, first)
            _save(model, processor, out / stage.name)
        if stage.name == last:
            return
        first += stage.steps * BATCH
        before = out / stage.name

    before = out / CURRICULUM[-1].name
    processor = data.load_processor(before)
    steps = {stage.name: stage.steps for stage in (*CURRICULUM, *MODELS)}
    card = {"seed": seed, "steps": steps, "batch": BATCH, "torch": torch.__version__}
    first = FIRST_SEED_OF_MODELS
    for stage in MODELS:
        if not (out / stage.name / "card.json").is_file():
            model = data.load_model(before, "float32")
            train(model, processor, stage, first)
            scores = {style: score(model, processor, style=style) for style in (STYLE, "direct")}
            print(stage.name, scores, flush=True)
            text = json.dumps({**card, "held_out": scores}, indent=1)
            _save(model.to(torch.bfloat16), processor, out / stage.name, text)
        if stage.name == last:
            return
        first += stage.steps * BATCH


def check_family(out: Path, family: str) -> None:
    """Raise `UserError` if a stage in `out` has a model of another family than `family`."""
    for stage in (*CURRICULUM, *MODELS):
        file = out / stage.name / "config.json"
        found = read_json(file)["model_type"] if file.is_file() else family
        if found != family:
            raise UserError(
                f"{file.parent} has a model of the family {found}, not {family}: "
                f"use another folder, or --family {found}"
            )


def _save(model: Any, processor: Any, folder: Path, card: str = "") -> None:
    """Write a model, and its card, into a folder that appears when all files are written."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save_pretrained(part)
    processor.save_pretrained(part)
    if card:
        (part / "card.json").write_text(card)
    shutil.rmtree(folder, ignore_errors=True)  # a model without a card
    os.replace(part, folder)


if __name__ == "__main__":
    main()
