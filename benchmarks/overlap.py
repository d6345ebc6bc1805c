"""Measures an RL step with rollouts of a vLLM server, with and without `rl.overlap`.

    python benchmarks/overlap.py --delay 5
    python benchmarks/overlap.py --json --steps 3 --set rl.max_tokens=40
    python benchmarks/overlap.py --learn --seeds 0,1,2

Starts `p2r serve --rollouts` with the teacher of the recipe and trains it twice for some steps, on
the same playground questions. The server takes `--delay` seconds longer for each batch of rollouts.
During these seconds it does not work, as if it had GPUs of its own. Without a delay, the server and
the trainer share the cores of this machine.

The results are medians over the steps, without the first, which compiles: `step_s` is the time of a
step, `wait_s` the time that the step waited for its rollouts, and `weight` the mean importance
weight of a token.

`--learn` asks whether the older rollouts cost anything: for each seed, it trains the teacher of the
recipe `tiny` both ways, and evaluates both models on `--questions` questions of the validation
split. The results are means over seeds and questions, and the paired differences with their 95 %
intervals over the questions: `overlap - one by one` as the mean of the seeds and for each seed, and
between the seeds of `one by one` (seed noise). `--learn` does not use `--delay`.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import mock

import p2r.training  # noqa: F401  isort: skip  (first: it applies the patches that TRL needs)
import numpy as np

from p2r import data
from p2r.engines import Completion, Request, Sampling
from p2r.engines.server import ServerEngine
from p2r.engines.vllm_server import VllmServer
from p2r.evaluation.run import METRICS
from p2r.judges import make_judge
from p2r.playground.splits import write_split
from p2r.records import Question
from p2r.runs import Run, quiet_libraries, use_threads
from p2r.runs.recipe import Recipe, load_recipe
from p2r.scoring import mean_interval
from p2r.stages.evaluation import evaluate_questions
from p2r.training.grpo import train_grpo

WAYS = {"one by one": False, "overlap": True}  # the values of `rl.overlap`
LEARNED = ("accuracy", "sufficiency")
Values = dict[str, dict[str, list[list[float | None]]]]  # way -> metric -> seed -> question


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--steps", type=int, help="default: 6; with --learn those of the recipe")
    parser.add_argument("--delay", type=float, default=5.0, help="seconds per batch of rollouts")
    parser.add_argument("--learn", action="store_true", help="compare the trained models")
    parser.add_argument("--seeds", default="0,1,2", help="seeds of --learn")
    parser.add_argument("--questions", type=int, default=300, help="questions of --learn")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    settings = ["rl.rollouts=vllm-server", "rl.preflight=0"]
    if not options.learn:
        settings += ["rl.prompts_per_step=4", "rl.micro_batch=32", "rl.steps=6"]
    if options.steps:
        settings.append(f"rl.steps={options.steps}")
    recipe = load_recipe("tiny" if options.learn else "tiny1", [*settings, *options.set])
    use_threads(recipe)
    quiet_libraries()
    if options.learn:
        learned = learn(recipe, [int(seed) for seed in options.seeds.split(",")], options.questions)
        print(json.dumps(learned, indent=None if options.json else 1))
        return
    found = measure(recipe, options.delay)
    if options.json:
        print(json.dumps(found))
        return
    for name, numbers in found.items():
        shown = ", ".join(f"{key} {value:.2f}" for key, value in numbers.items())
        print(f"{name}: {shown}")
    ratio = found["overlap"]["step_s"] / found["one by one"]["step_s"]
    print(f"with overlap: {ratio:.2f} of the time")


def measure(recipe: Recipe, delay: float) -> dict[str, dict[str, float]]:
    """Train twice with one server; return the numbers of both trainings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        questions = _questions(recipe, folder, "train")
        with (
            _server(recipe, folder) as server,
            mock.patch.object(ServerEngine, "generate", _slower(delay)),
        ):
            return {
                title: _speed(_train(recipe, server.base_url, way, questions, folder / title))
                for title, way in WAYS.items()
            }


def learn(recipe: Recipe, seeds: Sequence[int], count: int) -> dict[str, Any]:
    """Train both ways with each seed; return how good the models are on held-out questions."""
    values: Values = {title: {metric: [] for metric in LEARNED} for title in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        questions = _questions(recipe, folder, "train")
        held_out = _questions(recipe, folder / "validation", "validation", count)
        with _server(recipe, folder) as server:
            for seed in seeds:
                seeded = recipe.model_copy(update={"seed": seed})
                for title, way in WAYS.items():
                    out = folder / f"{title} {seed}"
                    _train(seeded, server.base_url, way, questions, out)
                    run = Run(out / "run", seeded)
                    cases, _ = evaluate_questions(
                        run, str(out / "model"), title, held_out, folder / "validation"
                    )
                    for metric in LEARNED:
                        values[title][metric].append([METRICS[metric](case) for case in cases])
    return {metric: _compare(values, metric, seeds) for metric in LEARNED}


def _compare(values: Values, metric: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Compare both ways, and the seeds of the first one, question by question."""
    one, ahead = (np.array(values[title][metric], dtype=float) for title in WAYS)
    difference = ahead - one  # (seeds, questions), NaN: unknown
    return {
        "n": {"seeds": len(seeds), "questions": one.shape[1]},
        "one by one, by seed": np.nanmean(one, 1).tolist(),
        "overlap, by seed": np.nanmean(ahead, 1).tolist(),
        "overlap - one by one": mean_interval(difference.mean(0)),
        "overlap - one by one, by seed": [mean_interval(row) for row in difference],
        "noise of one by one": {
            f"seed {seeds[b]} - seed {seeds[a]}": mean_interval(one[b] - one[a])
            for a, b in combinations(range(len(seeds)), 2)
        },
    }


def _questions(
    recipe: Recipe, folder: Path, split: str, count: int | None = None
) -> list[Question]:
    """Write questions of a split and their videos; by default enough for the training."""
    count = count or recipe.rl.prompts_per_step * recipe.rl.steps
    write_split(folder, split, count, generation=recipe.playground.generation)
    lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [Question.model_validate_json(line) for line in lines]


def _server(recipe: Recipe, folder: Path) -> VllmServer:
    model = data.resolve_model(recipe.models.teacher)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return VllmServer(recipe, model, port=port, log=folder / "vllm.log", rollouts=True)


def _train(
    recipe: Recipe, address: str, overlap: bool, questions: list[Question], out: Path
) -> Path:
    changed = recipe.model_copy(
        update={
            "rl": recipe.rl.model_copy(update={"overlap": overlap}),
            "server": recipe.server.model_copy(update={"base_url": address}),
        }
    )
    model = data.resolve_model(recipe.models.teacher)
    judge = make_judge("oracle")
    train_grpo(changed, questions, model, out, judge=judge, data_root=out.parent)
    return out


def _speed(out: Path) -> dict[str, float]:
    """Return the medians over the steps of a training, without the first."""
    lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines][1:]
    waited = [step.get("time/rollout_wait", step["time/generate"]) for step in steps]
    return {
        "step_s": statistics.median(step["step_time"] for step in steps),
        "wait_s": statistics.median(waited),
        "weight": statistics.median(
            step["sampling/importance_sampling_ratio/mean"] for step in steps
        ),
    }


def _slower(delay: float) -> Any:
    generate = ServerEngine.generate

    def wait_and_generate(
        self: ServerEngine, requests: Iterable[Request], sampling: Sampling
    ) -> Iterator[Completion]:
        time.sleep(delay)
        yield from generate(self, requests, sampling)

    return wait_and_generate


if __name__ == "__main__":
    main()
