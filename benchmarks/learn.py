"""Asks whether a way to train faster changes what a model learns.

    python benchmarks/learn.py packing --seeds 0,1,2
    python benchmarks/learn.py overlap --seeds 0,1,2
    python benchmarks/learn.py packing --json --set rl.steps=2 --questions 20

For each seed, it trains the base model of the recipe `tiny` in two ways, and evaluates both models
on `--questions` questions of the validation split. The two ways are:

- `packing`: log-probs and loss from packed rows (`p2r.training.packing`), or from ordinary padded
  rows, one for each rollout.
- `overlap`: rollouts of a vLLM server with `rl.overlap`, which are one step older, or without it.

The results are means over seeds and questions, and paired differences with their 95 % intervals
over the questions: of the two ways, as the mean of the seeds and for each seed, and between the
seeds of the plain way (seed noise). `curves` compares the rewards over the steps: the mean distance
between the curves of the two ways with the same seed, and between those of two seeds of the plain
way.

With `--out FOLDER`, the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import mock

import p2r.training  # noqa: F401  isort: skip  (first: it applies the patches that TRL needs)
import numpy as np
import torch
from accelerate import Accelerator
from overlap import SERVED, at, serve, train, write_questions

from p2r import data
from p2r.evaluation.run import METRICS
from p2r.records import Question
from p2r.runs import Run, quiet_libraries, use_threads
from p2r.runs.recipe import Recipe, load_recipe
from p2r.scoring import mean_interval
from p2r.stages.evaluation import evaluate_questions
from p2r.training import trainer as trainer_module
from p2r.training.log_probs import Reading, Rows

LEARNED = ("accuracy", "sufficiency")
Train = Callable[[Recipe, Path], object]  # trains with a recipe into a folder
Ways = dict[str, Train]  # the plain way first


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=WAYS, help="the two ways that are compared")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--seeds", default="0,1,2", help="seeds (default 0,1,2)")
    parser.add_argument("--questions", type=int, default=300, help="held-out questions")
    parser.add_argument("--out", type=Path, help="keep the trainings here, and continue them")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args()
    served = SERVED if options.what == "overlap" else ()
    recipe = load_recipe("tiny", [*served, *options.set])
    use_threads(recipe)
    quiet_libraries()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    with nullcontext(options.out) if options.out else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        found = learn(recipe, WAYS[options.what], seeds, options.questions, folder)
    print(json.dumps(found, indent=None if options.json else 1))


def learn(
    recipe: Recipe, make_ways: Any, seeds: Sequence[int], count: int, folder: Path
) -> dict[str, Any]:
    """Train both ways with each seed; return how good the models are on held-out questions."""
    questions = write_questions(recipe, folder, "train")
    held_out = write_questions(recipe, folder / "validation", "validation", count)
    cases: dict[str, list[list[Any]]] = {}  # way -> seed -> question
    rewards: dict[str, list[list[float]]] = {}  # way -> seed -> step
    with make_ways(recipe, questions, folder) as ways:
        for seed in seeds:
            seeded = recipe.model_copy(update={"seed": seed})
            for title, train_one in ways.items():
                out = folder / f"{title} {seed}"
                train_one(seeded, out)
                run = Run(out / "run", seeded)
                model = str(out / "model")
                answered, _ = evaluate_questions(run, model, title, held_out, folder / "validation")
                cases.setdefault(title, []).append(answered)
                steps = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
                rewards.setdefault(title, []).append([json.loads(s)["reward"] for s in steps])
    found = {}
    for metric in LEARNED:
        values = {
            title: [[METRICS[metric](case) for case in answered] for answered in by_seed]
            for title, by_seed in cases.items()
        }
        found[metric] = compare(values, seeds)
    return found | {"curves": compare_curves(rewards)}


def compare(values: dict[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """Compare both ways, and the seeds of the plain way, question by question."""
    plain, other = values
    one, two = (np.array(values[title], dtype=float) for title in (plain, other))
    difference = two - one  # (seeds, questions), NaN: unknown
    return {
        "n": {"seeds": len(seeds), "questions": one.shape[1]},
        f"{plain}, by seed": np.nanmean(one, 1).tolist(),
        f"{other}, by seed": np.nanmean(two, 1).tolist(),
        f"{other} - {plain}": mean_interval(difference.mean(0)),
        f"{other} - {plain}, by seed": [mean_interval(row) for row in difference],
        f"noise of {plain}": {
            f"seed {seeds[b]} - seed {seeds[a]}": mean_interval(one[b] - one[a])
            for a, b in combinations(range(len(seeds)), 2)
        },
    }


def compare_curves(rewards: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Return the mean distances between curves of the reward: of both ways, and of two seeds."""
    plain, other = rewards
    one, two = np.array(rewards[plain]), np.array(rewards[other])  # (seeds, steps)
    pairs = [np.abs(one[a] - one[b]).mean() for a, b in combinations(range(len(one)), 2)]
    return {
        "steps": one.shape[1],
        f"{plain}, last 10 steps": one[:, -10:].mean(1).tolist(),
        f"{other}, last 10 steps": two[:, -10:].mean(1).tolist(),
        "distance of the ways": np.abs(one - two).mean(1).tolist(),
        "distance of two seeds": statistics.mean(pairs) if pairs else None,
    }


# ----------------------------------------------------------------------------------------- the ways


@contextmanager
def packing(recipe: Recipe, questions: list[Question], folder: Path) -> Iterator[Ways]:
    model = data.resolve_model(recipe.models.base)

    def ordinary(recipe: Recipe, out: Path) -> None:
        with mock.patch.object(trainer_module, "read_rows", read_padded_rows):
            train(recipe, model, questions, out)

    yield {
        "ordinary": ordinary,
        "packed": lambda recipe, out: train(recipe, model, questions, out),
    }


@contextmanager
def overlap(recipe: Recipe, questions: list[Question], folder: Path) -> Iterator[Ways]:
    model = data.resolve_model(recipe.models.base)
    with serve(recipe, model, folder / "vllm.log") as server:
        yield {
            title: lambda recipe, out, way=way: train(
                at(recipe, server, overlap=way), model, questions, out
            )
            for title, way in (("one by one", False), ("overlap", True))
        }


WAYS = {"packing": packing, "overlap": overlap}


def read_padded_rows(
    model: Any,
    rows: Rows,
    accelerator: Accelerator,
    size: int | None = None,
    entropy: bool = False,
    states: list[torch.Tensor] | None = None,
) -> Reading:
    """Return the reading of rows as `p2r.training.log_probs.read_rows`, without packing."""
    assert states is None, "this recipe has no critic"
    count, width = len(rows.input_ids), rows.width
    log_probs, entropies = [], []
    for start in range(0, count, size or count):
        some = slice(start, start + (size or count))
        labels = rows.input_ids[some].masked_fill(rows.attention_mask[some] == 0, data.IGNORED)
        labels[:, :-width] = data.IGNORED
        vision = {key: [row[key] for row in rows.vision[some]] for key in data.VISION_KEYS}
        with accelerator.autocast():
            output = model(
                input_ids=rows.input_ids[some],
                attention_mask=rows.attention_mask[some],
                mm_token_type_ids=rows.token_types[some],
                labels=labels,
                fused_lm_head=True,
                **data.to_model_inputs(vision),
            )
        log_probs.append(output.log_probs[:, -width:])
        if entropy:
            entropies.append(output.entropy[:, -width:])
    return Reading(torch.cat(log_probs), torch.cat(entropies) if entropy else None)


if __name__ == "__main__":
    main()
