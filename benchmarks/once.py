"""Measures work that p2r avoids: padding, repeated passes of a frozen tower, complete rows.

    python benchmarks/once.py
    python benchmarks/once.py --rounds 5 --json

- `sft`: forward and backward passes over 32 examples, videos and texts with responses of 10 to 200
  tokens. An update has 16 examples of similar length, as with `sft.group_by_length`. `padded` has
  batches of eight, `packed` has rows of at most `--budget` tokens without padding.
- `rl`: one step of RL with a frozen vision tower, a prompt with 16 frames, four rollouts of 30
  tokens in micro-batches of two. `each pass` calls the tower in every pass, `once` computes the
  features of a prompt once, `disk` reads the features that an earlier run has computed.
- `sampling`: the teacher of the recipe `tiny` answers 64 questions with the engine transformers, at
  temperature 1. `plain` computes all rows until the longest one is complete and copies keys for
  heads that share them, as transformers does. `open` is p2r's engine. Both sample the same tokens.

All use tiny models on the CPU. The compared ways take turns in one OS process. The results are
medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import p2r.training  # noqa: F401  isort: skip  (first: it applies the patches that TRL needs)
import torch
from common import make_questions
from step import SHAPES, TimedTrainer, our_trainer
from trl.trainer.utils import add_fused_lm_head

from p2r import data
from p2r.engines import Request, Sampling, transformers
from p2r.engines.transformers import TransformersEngine
from p2r.files.disk_cache import DiskCache
from p2r.judges import make_judge
from p2r.records import Question
from p2r.runs import use_threads
from p2r.runs.recipe import Recipe, load_recipe
from p2r.training.packing import accept_packed_rows
from p2r.training.sft_batches import (
    LengthGroups,
    TraceCollator,
    fill_bins,
    pack_examples,
)
from p2r.training.tuning import freeze_vision
from p2r.video import FrameCache

EXAMPLES, UPDATE, BATCH = 32, 16, 8
ROWS = 64  # of a batch of `sampling`


def measure_sft(rounds: int, budget: int) -> dict[str, Any]:
    """Return seconds and tokens of both ways to batch, and the ratio of their times."""
    recipe = load_recipe("tiny1")
    use_threads(recipe)
    with tempfile.TemporaryDirectory() as name:
        questions = make_questions(Path(name), "train", EXAMPLES)
        for question in questions[::3]:
            question.path = ""
        torch.manual_seed(0)
        lengths = torch.randint(10, 200, (EXAMPLES,)).tolist()
        read = partial(
            data.read_frames, root=name, cache=FrameCache(), **data.train_settings(recipe.video)
        )
        collator = TraceCollator(
            data.load_processor(recipe.models.base),
            questions,
            ["so " * length for length in lengths],
            read,
            recipe.style,
            None,
            lambda question, reason: sys.exit(f"{question.id}: {reason}"),
        )
        sizes = [len(collator.encode(place)["input_ids"]) for place in range(EXAMPLES)]
        order = list(LengthGroups(sizes, UPDATE, 0))
        models = {}
        for side in ("padded", "packed"):
            models[side] = data.load_model(recipe.models.base).train()
            add_fused_lm_head(models[side], outputs=("log_probs", "entropy"))
        accept_packed_rows(models["packed"])
        seconds: dict[str, list[float]] = {side: [] for side in models}
        tokens = {side: 0 for side in models}
        for _ in range(rounds + 1):  # the first is a warm-up
            for side, model in models.items():
                batches = []
                for start in range(0, EXAMPLES, UPDATE):
                    places = order[start : start + UPDATE]
                    if side == "packed":
                        bins = fill_bins([sizes[place] for place in places], budget)
                        batches += [[places[index] for index in chosen] for chosen in bins]
                    else:
                        batches += [places[:BATCH], places[BATCH:]]
                collator.packed = side == "packed"
                made = [collator([{"example": place} for place in batch]) for batch in batches]
                start, tokens[side] = time.perf_counter(), 0
                for batch in made:
                    if side == "packed":
                        batch = pack_examples(model, batch["examples"])
                    tokens[side] += batch["input_ids"].numel()
                    (
                        -model(**batch, fused_lm_head=True, use_cache=False).log_probs.sum()
                    ).backward()
                seconds[side].append(time.perf_counter() - start)
    seconds = {side: values[1:] for side, values in seconds.items()}
    return summary(seconds, "packed", "padded") | {"tokens": tokens}


def measure_rl(rounds: int) -> dict[str, Any]:
    """Return the seconds of a step for each way to see a prompt, and their ratios."""
    sizes = ["rl.prompts_per_step=1", "rl.group_size=4", "rl.micro_batch=2", "rl.max_tokens=30"]
    recipe = load_recipe("tiny1", [*SHAPES["long"], "rl.steps=1", "rl.learning_rate=0.0", *sizes])
    use_threads(recipe)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        questions = make_questions(folder, "train", recipe.rl.prompts_per_step)
        sides = {
            side: TimedTrainer(_frozen_trainer(recipe, questions, folder, side))
            for side in ("each pass", "once", "disk")
        }
        order = list(sides.values())
        for number in range(rounds + 1):
            for side in order:
                side.step(seed=number)
            order.append(order.pop(0))
        for side in sides.values():
            side.forget_first()
    seconds = {name: side.seconds for name, side in sides.items()}
    found = summary(seconds, "once", "each pass")
    return found | {"disk_over_each pass": summary(seconds, "disk", "each pass")["ratio"]}


def measure_sampling(rounds: int) -> dict[str, Any]:
    """Return the seconds of both ways to sample, the ratio, and whether all tokens are the same."""
    recipe = load_recipe("tiny")
    use_threads(recipe)
    with tempfile.TemporaryDirectory() as name:
        questions = make_questions(Path(name), "train", ROWS, recipe.playground.generation)
        read = partial(data.read_frames, root=name, **data.train_settings(recipe.video))
        requests = [
            Request(question.id, question, read(question, cache=FrameCache(None)))
            for question in questions
        ]
    engines = {
        side: TransformersEngine(recipe.models.teacher, batch_size=ROWS, style=recipe.style)
        for side in ("plain", "open")
    }
    with mock.patch.object(transformers, "fold_attention"):
        engines["plain"].model.eval()  # loads it
    sampling = Sampling(1.0, 1.0, recipe.generate.max_tokens, 0)
    seconds: dict[str, list[float]] = {side: [] for side in engines}
    answers: dict[str, list[Any]] = {}
    for _ in range(rounds + 1):  # the first is a warm-up
        for side, engine in engines.items():
            drops = transformers.dropping if side == "open" else _drops_nothing
            start = time.perf_counter()
            with mock.patch.object(transformers, "dropping", drops):
                answers[side] = [each.token_ids for each in engine.generate(requests, sampling)]
            seconds[side].append(time.perf_counter() - start)
    seconds = {side: values[1:] for side, values in seconds.items()}
    lengths = [len(tokens) for tokens in answers["open"]]
    return summary(seconds, "open", "plain") | {
        "same": answers["open"] == answers["plain"],
        "tokens": {"mean": statistics.mean(lengths), "longest": max(lengths)},
    }


def _drops_nothing(*_: Any) -> contextlib.nullcontext[None]:
    return contextlib.nullcontext()


def _frozen_trainer(recipe: Recipe, questions: list[Question], folder: Path, side: str) -> Any:
    read = partial(
        data.read_frames, root=folder, cache=FrameCache(), **data.train_settings(recipe.video)
    )
    trainer = our_trainer(recipe, questions, read, folder, False, make_judge("oracle"))
    freeze_vision(trainer.model)
    if side == "each pass":
        trainer.vision_once.see = lambda model, vision, trained: vision  # type: ignore[method-assign]
    if side == "disk":
        trainer.vision_once.cache = DiskCache(folder / "features", ".safetensors")
    return trainer


def summary(seconds: dict[str, list[float]], one: str, other: str) -> dict[str, Any]:
    """Return medians, and the median ratio of two sides within a round."""
    ratios = [mine / theirs for mine, theirs in zip(seconds[one], seconds[other], strict=True)]
    return {
        "ratio": statistics.median(ratios),
        "seconds": {side: statistics.median(values) for side, values in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side (default 3)")
    parser.add_argument("--budget", type=int, default=2048, help="tokens per packed row")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):
        found = {"sft": measure_sft(options.rounds, options.budget)}
        found["rl"] = measure_rl(options.rounds)
        found["sampling"] = measure_sampling(options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    sft, rl = found["sft"], found["rl"]
    print(f"SFT: packed takes {sft['ratio']:.2f} of the time of padded "
          f"({sft['tokens']['packed']:,} tokens against {sft['tokens']['padded']:,})")  # fmt: skip
    print(f"RL with a frozen tower: once takes {rl['ratio']:.2f} of the time of each pass, "
          f"features from disk {rl['disk_over_each pass']:.2f}")  # fmt: skip
    sampling = found["sampling"]
    print(f"sampling: open rows take {sampling['ratio']:.2f} of the time of all rows; tokens the "
          f"same: {sampling['same']}; mean {sampling['tokens']['mean']:.0f} tokens, longest "
          f"{sampling['tokens']['longest']}")  # fmt: skip
    for name, part in found.items():
        print(name, {side: round(value, 2) for side, value in part["seconds"].items()})


if __name__ == "__main__":
    main()
