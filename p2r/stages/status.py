"""The progress of all stages of a run, and lists and comparisons of runs. Only reads files."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from p2r.errors import UserError
from p2r.files.journal import count_lines, journal_files
from p2r.pipeline import status as pipeline_status
from p2r.runs import differences, read_json
from p2r.runs.metrics import read_metrics
from p2r.runs.names import trained_stages
from p2r.runs.recipe import Recipe, load_recipe

# The latest values of these metrics are shown, if the training logs them.
SHOWN_METRICS = ("loss", "reward", "perception/accuracy", "reasoning/accuracy", "kl", "grad_norm")
RECENT = 20  # steps that the rate is the median of


def status(folder: str | Path) -> dict[str, Any]:
    """Return the progress of a run: generation, filter, evaluations, SFT and RL.

    The trainings have the keys of the other stages; `wanted`, `done` and `left` count steps. They
    also have `state` ("begun" or "finished") and `metrics`, the latest values. Raises `UserError`
    if the folder is not a run.
    """
    folder = Path(folder)
    report = pipeline_status.status(folder)
    recipe = load_recipe(folder / "recipe.yaml")
    trainings = {name: _training(folder / name, recipe) for name in trained_stages(folder)}
    begun = {name: found for name, found in trainings.items() if found}
    evaluations = {name: s for name, s in report["stages"].items() if name.startswith("eval ")}
    others = {name: s for name, s in report["stages"].items() if name not in evaluations}
    return {**report, "stages": others | begun | evaluations}


def _training(stage: Path, recipe: Recipe) -> dict[str, Any] | None:
    """Return the progress of SFT or RL in optimiser steps; None if the stage has not begun."""
    finished = (stage / "model").is_dir()
    if not finished and not (stage / "made.json").is_file():
        return None
    rows = read_metrics(stage / "metrics.jsonl")
    done = int(rows[-1]["step"]) if rows else 0
    wanted = done if finished else max(_steps(stage, recipe, rows), done)
    per_step = _seconds_per_step(stage, rows)
    written = _written(stage / "metrics.jsonl")
    left = wanted - done
    latest = {key: _latest(rows, key) for key in SHOWN_METRICS}
    return {
        "wanted": wanted,
        "done": done,
        "left": left,
        "per_s": round(1 / per_step, 3) if per_step else None,
        "eta_s": round(left * per_step) if per_step else None,
        "last_write_s": round(time.time() - written, 1) if written else None,
        "state": "finished" if finished else "begun",
        "metrics": {key: value for key, value in latest.items() if value is not None},
    }


def _latest(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    """Return the last finite value of a metric."""
    for row in reversed(rows):
        value = row.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    return None


def _steps(stage: Path, recipe: Recipe, rows: Sequence[dict[str, Any]]) -> int:
    """Return the number of steps of a training; for SFT from a checkpoint or the epoch so far."""
    if stage.name != "sft":  # an arm of the demo may have its own number of steps
        return (recipe.of_arm(stage.name) if stage.name in recipe.demo.arms else recipe).rl.steps
    for state in stage.glob("checkpoints/*/trainer_state.json"):
        try:
            return int(read_json(state)["max_steps"])
        except (ValueError, KeyError):
            continue
    if recipe.sft.max_steps > 0:
        return recipe.sft.max_steps
    epoch = _latest(rows, "epoch")
    return round(rows[-1]["step"] / epoch * recipe.sft.epochs) if epoch else 0


def _seconds_per_step(stage: Path, rows: Sequence[dict[str, Any]]) -> float | None:
    """Return the recent seconds per step, or the mean since the start if no step has its time."""
    times = [row["step_time"] for row in rows[-RECENT:] if row.get("step_time")]
    if times:
        return statistics.median(times)
    span = _written(stage / "metrics.jsonl") - _written(stage / "made.json")
    return span / rows[-1]["step"] if rows and rows[-1]["step"] and span > 0 else None


def _written(path: Path) -> float:
    return path.stat().st_mtime if path.is_file() else 0.0


# ---- several runs


def list_runs(folder: str | Path) -> list[dict[str, Any]]:
    """Return the runs in a folder, the newest first: name, recipe, finished stages, accuracies.

    A run that cannot be read has the reason in place of its recipe. Raises `UserError` if the
    folder does not exist.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is not a folder: give the folder that holds the runs")
    runs = [path.parent for path in Path(folder).glob("*/recipe.yaml")]
    return sorted(map(_describe_or_reason, runs), key=lambda run: -run["written"])


def _describe_or_reason(folder: Path) -> dict[str, Any]:
    try:
        return describe_run(folder)
    except (ValueError, LookupError, TypeError, OSError) as error:
        reason = f"unreadable: {' '.join(str(error).split())}"
        written = _last_write(folder)
        facts = {"run": str(folder), "recipe": reason, "written": written}
        return {**facts, "stages": {}, "metrics": {}}


def _last_write(folder: Path) -> float:
    files = [*folder.glob("*.json*"), *folder.glob("*/*.json*"), folder / "recipe.yaml"]
    return max(map(_written, files))


def describe_run(folder: Path) -> dict[str, Any]:
    """Return a run's name, recipe, the time of its last write, its stages and its accuracies."""
    return {
        "run": str(folder),
        "recipe": load_recipe(folder / "recipe.yaml").name,
        "written": _last_write(folder),
        "stages": _stage_states(folder),
        "metrics": {name: _means(found) for name, found in _evaluations(folder)},
    }


def _stage_states(folder: Path) -> dict[str, str]:
    """Return "finished" or "begun" for every stage that has begun."""
    states = {}
    if plans := journal_files(folder / "generate.plan.json"):
        files = [*journal_files(folder / "generate.jsonl")]
        files += journal_files(folder / "generate.errors.jsonl")
        wanted = max(read_json(plan)["wanted"] for plan in plans)
        states["generate"] = "finished" if sum(map(count_lines, files)) >= wanted else "begun"
    if journal_files(folder / "filter.jsonl"):
        states["filter"] = "finished" if (folder / "funnel.json").is_file() else "begun"
    for name in trained_stages(folder):
        states[name] = "finished" if (folder / name / "model").is_dir() else "begun"
    return states


def _evaluations(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(folder.glob("eval/*.json")):
        if path.name.endswith((".plan.json", ".made.json")):
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("metrics"), dict):
            yield path.stem, found


def _means(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the mean and the interval of every metric."""
    kept = ("mean", "low", "high", "n")
    return {
        name: {key: value[key] for key in kept if key in value}
        for name, value in found["metrics"].items()
        if isinstance(value, dict)
    }


def compare_runs(folders: Iterable[str | Path]) -> dict[str, Any]:
    """Return the settings in which runs differ, and all their metrics side by side.

    `settings`: key -> one value per run. `metrics`: "MODEL METRIC" -> one interval, or None, per
    run.
    """
    paths = [Path(folder) for folder in folders]
    recipes = [load_recipe(path / "recipe.yaml").model_dump(mode="json") for path in paths]
    keys = dict.fromkeys(key for other in recipes[1:] for key in differences(recipes[0], other))
    described = [describe_run(path)["metrics"] for path in paths]
    names = [(model, metric) for run in described for model in run for metric in run[model]]
    return {
        "runs": [str(path) for path in paths],
        "settings": {key: [_value(recipe, key) for recipe in recipes] for key in keys},
        "metrics": {
            f"{model} {metric}": [run.get(model, {}).get(metric) for run in described]
            for model, metric in dict.fromkeys(names)
        },
    }


def _value(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings
