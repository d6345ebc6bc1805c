"""Publishes pre-trained models of the second world: `playground/second/teacher` and `…/base`.

    python -m p2r.playground.pretraining.publish runs/pretraining
    python -m p2r.playground.card --model playground/second/teacher \\
        --out p2r/playground/models/second/teacher/card.json

The first command writes each model in bfloat16 into the package, with `made.json`: the seeds,
settings, steps and last check of every stage. Next to the models it writes the log of all stages
(`log.jsonl`) and the curve of all checks (`curve.svg`). The second command writes a model's card.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from p2r import data
from p2r.errors import UserError
from p2r.files.atomic import read_json, write_json, write_text
from p2r.playground.pretraining.curriculum import CURRICULUM, MODELS, Stage
from p2r.playground.pretraining.curve import draw_curve
from p2r.playground.pretraining.train import ROPE_THETA, STAGES, seeds_of
from p2r.runs import model_fingerprint
from p2r.runs.models import SHIPPED

FOLDER = SHIPPED / "second"
MOST_BYTES = 10 * 10**6  # of one shipped model


def publish(
    source: Path, names: Sequence[str], folder: Path = FOLDER, seed: int = 0, stage: str = ""
) -> list[Path]:
    """Write the models of a pre-training into `folder`; return their folders.

    `names`: the models, "teacher" and "base". `seed`: the seed of the first weights. `stage`: take
    the model of this stage, for a trial before the models are finished. Raises `UserError` if a
    stage is not finished, or if a model is larger than `MOST_BYTES`.
    """
    written = []
    for name in names:
        trained = source / (stage or name)
        made = {
            "seed": seed,
            "rope_theta": ROPE_THETA,
            "stages": [_describe(source, each) for each in stages_of(stage or name)],
            "weights": model_fingerprint(trained),
        }
        out = folder / name
        data.load_model(trained, torch.bfloat16).save_pretrained(out)
        data.load_processor(trained).save_pretrained(out)
        size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
        if size > MOST_BYTES:
            raise UserError(f"{out} has {size:,} bytes of weights, but at most {MOST_BYTES:,} fit")
        write_json(out / "made.json", made)
        written.append(out)
    rows = [*read_log(source)]
    write_text(folder / "log.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    write_text(folder / "curve.svg", draw_curve(rows))
    return written


def stages_of(name: str) -> list[str]:
    """Return the names of the stages that lead to a model or a stage, in order."""
    before = list(STAGES[: -len(MODELS)])
    return before[: before.index(name) + 1] if name in before else [*before, name]


def _describe(source: Path, name: str) -> dict[str, Any]:
    """Return the settings, the first seed and the end of a finished stage."""
    done = source / name / "done.json"
    if not done.is_file():
        raise UserError(f"{done} is missing: finish the pre-training of stage {name!r} first")
    stage = next((each for each in (*CURRICULUM, *MODELS) if each.name == name), None)
    return {"name": name, **(_settings(stage) if stage else {}), "done": read_json(done)}


def _settings(stage: Stage) -> dict[str, Any]:
    return {**asdict(stage), "first_seed": seeds_of(stage)}


def read_log(source: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of the logs of all stages, each with its stage and the steps so far."""
    before = 0
    for name in STAGES:
        file, done = source / name / "log.jsonl", source / name / "done.json"
        steps = read_json(done)["steps"] if done.is_file() else None
        last = 0
        for line in file.read_text().splitlines() if file.is_file() else ():
            row = json.loads(line)
            step = row.pop("step")
            if steps is None or step <= steps:
                last = max(last, step)
                yield {"stage": name, "step": step, "total": before + step, **row}
        before += steps or last


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder of the pre-training")
    parser.add_argument("--models", nargs="+", default=[stage.name for stage in MODELS])
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder of the published models")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first weights")
    parser.add_argument("--stage", default="", help="publish the model of this stage, for a trial")
    given = parser.parse_args()
    for folder in publish(given.source, given.models, given.to, given.seed, given.stage):
        print(folder)


if __name__ == "__main__":
    main()
