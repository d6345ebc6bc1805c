"""Measures an RL step with rollouts of a vLLM server, with and without `rl.overlap`.

    python benchmarks/overlap.py --delay 5
    python benchmarks/overlap.py --json --steps 3 --set rl.max_tokens=40

Starts `p2r serve --rollouts` with the teacher of the recipe and trains it twice for some steps, on
the same playground questions. The server takes `--delay` seconds longer for each batch of rollouts.
During these seconds it does not work, as if it had GPUs of its own. Without a delay, the server and
the trainer share the cores of this machine.

The results are medians over the steps, without the first, which compiles: `step_s` is the time of a
step, `wait_s` the time that the step waited for its rollouts, and `weight` the mean importance
weight of a token.

`learn.py overlap` asks whether the older rollouts make the trained model worse.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import p2r.training  # noqa: F401  isort: skip  (first: it applies the patches that TRL needs)
from common import free_port, make_questions

from p2r import data
from p2r.engines import Completion, Request, Sampling
from p2r.engines.server import ServerEngine
from p2r.engines.vllm_server import VllmServer
from p2r.judges import make_judge
from p2r.records import Question
from p2r.runs import quiet_libraries, use_threads
from p2r.runs.recipe import Recipe, load_recipe
from p2r.training.grpo import train_grpo

SERVED = ("rl.rollouts=vllm-server", "rl.preflight=0")
WAYS = {"one by one": False, "overlap": True}  # the values of `rl.overlap`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--delay", type=float, default=5.0, help="seconds per batch of rollouts")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    settings = [*SERVED, "rl.prompts_per_step=4", "rl.micro_batch=32", f"rl.steps={options.steps}"]
    recipe = load_recipe("tiny1", [*settings, *options.set])
    use_threads(recipe)
    quiet_libraries()
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
        questions = write_questions(recipe, folder, "train")
        model = data.resolve_model(recipe.models.teacher)
        with (
            serve(recipe, model, folder / "vllm.log") as server,
            mock.patch.object(ServerEngine, "generate", _slower(delay)),
        ):
            return {
                title: _speed(
                    train(at(recipe, server, overlap=way), model, questions, folder / title)
                )
                for title, way in WAYS.items()
            }


def write_questions(
    recipe: Recipe, folder: Path, split: str, count: int | None = None
) -> list[Question]:
    """Write questions of a split and their videos; by default enough for the training."""
    count = count or recipe.rl.prompts_per_step * recipe.rl.steps
    return make_questions(folder, split, count, recipe.playground.generation)


def serve(recipe: Recipe, model: str, log: Path) -> VllmServer:
    """Return a server for the rollouts of a training that starts from `model`."""
    return VllmServer(recipe, model, port=free_port(), log=log, rollouts=True)


def at(recipe: Recipe, server: VllmServer, overlap: bool) -> Recipe:
    """Return a recipe that samples at a server."""
    return recipe.model_copy(
        update={
            "rl": recipe.rl.model_copy(update={"overlap": overlap}),
            "server": recipe.server.model_copy(update={"base_url": server.base_url}),
        }
    )


def train(recipe: Recipe, model: str, questions: list[Question], out: Path) -> Path:
    """Train with the oracle as the judge; the videos are in the folder above `out`."""
    train_grpo(recipe, questions, model, out, judge=make_judge("oracle"), data_root=out.parent)
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
