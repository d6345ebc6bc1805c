"""Repeat a stage of a run with other settings, and compare the variants.

Each variant has a run folder of its own, `variants/STAGE/NAME` in the run, so that no file mixes
the results of two settings. A variant starts from the results of the run: its questions, traces,
kept traces and SFT model.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from p2r import plots, stages
from p2r.errors import UserError
from p2r.judges.run_judge import share_books
from p2r.runs import Run, differences, open_run, read_json
from p2r.runs.names import rl_stage
from p2r.scoring import mean_interval
from p2r.stages.inputs import source_of
from p2r.workshop.notebook import read_metrics

VariedStage = Literal["filter", "sft", "rl"]
LAST_STEPS = 5  # the last numbers of a training are means over so many steps


def vary(run: Run, stage: VariedStage, variants: Mapping[str, Sequence[str]]) -> dict[str, Run]:
    """Repeat a stage once per variant, and return the runs of all variants by name.

    `variants`: name → overrides, for example {"no KL": ["rl.beta=0"]}. A finished variant is not
    made again. Raises `UserError` if the run misses the results that the stage starts from.
    """
    made = {}
    for name, overrides in variants.items():
        variant = open_variant(run, stage, name, overrides)
        _REPEAT[stage](run, variant)
        made[name] = variant
    return made


def open_variant(run: Run, stage: VariedStage, name: str, overrides: Sequence[str]) -> Run:
    """Open the run folder of a variant: the recipe of the run with some settings changed."""
    folder = run.folder / "variants" / stage / re.sub(r"[^\w.-]+", "-", name).strip("-")
    variant = open_run(folder, run.folder / "recipe.yaml", overrides)
    share_books(variant, run)
    return variant


def inputs_of(run: Run, purpose: str) -> dict[str, Any]:
    """Return the questions and the media folder of a stage of the run, as stage arguments."""
    _, root = stages.find_questions(run, purpose)
    return {"questions": source_of(run, purpose), "data_root": root}


def _needed(run: Run, *parts: str) -> Path:
    path = run.folder.joinpath(*parts)
    if not path.exists():
        raise UserError(f"{path} is missing: run that stage of the run first")
    return path


def _filter(run: Run, variant: Run) -> None:
    _needed(run, "generate.jsonl")
    for file in run.folder.glob("generate.*"):
        if not variant.path(file.name).exists():
            shutil.copy(file, variant.path(file.name))
    stages.filter(variant)


def _sft(run: Run, variant: Run) -> None:
    kept = _needed(run, "sft.jsonl")
    stages.sft(variant, cases=kept, data_root=stages.find_data_root(run))


def _rl(run: Run, variant: Run) -> None:
    start = str(_needed(run, "sft", "model"))
    stages.rl(variant, start_model=start, **inputs_of(run, "rl"))


_REPEAT: dict[str, Callable[[Run, Run], None]] = {"filter": _filter, "sft": _sft, "rl": _rl}


# ---------------------------------------------------------------------------------------- compare


def compare(
    runs: Mapping[str, Run], stage: VariedStage = "rl", measure: str = "accuracy", window: int = 5
) -> Any:
    """Print a table of the variants of a stage, and return a figure of their curves.

    Each row of the table has the settings that differ from the first run, and the last numbers of
    the stage. `measure`: for "rl" one of `p2r.plots.COMPARISONS`; other stages ignore it.
    """
    print(table(runs, stage))
    if stage == "filter":
        kept = {name: row["kept"] for name, row in last_numbers(runs, stage).items()}
        return plots.bars(kept, "Kept traces", "traces")
    rows = {name: metrics_of(run, stage) for name, run in runs.items()}
    if stage == "sft":
        steps = [row["step"] for row in max(rows.values(), key=len)]
        losses = {n: [plots.drawable(row.get("loss")) for row in each] for n, each in rows.items()}
        return plots.lines(steps, losses, "SFT", "optimiser step", "loss")
    return plots.compare_stages(measure, rows, min(window, min(map(len, rows.values()))))


def table(runs: Mapping[str, Run], stage: VariedStage) -> str:
    """Return the table of `compare` as text."""
    numbers = last_numbers(runs, stage)
    first = next(iter(runs.values()))
    names = list(dict.fromkeys(key for row in numbers.values() for key in row))
    width = max(map(len, runs)) + 2
    lines = ["".ljust(width) + "".join(f"{name:>24}" for name in names)]
    for name, run in runs.items():
        cells = "".join(f"{_number(numbers[name].get(key)):>24}" for key in names)
        lines.append(f"{name:<{width}}{cells}  {changed_settings(first, run)}")
    return "\n".join(lines)


def last_numbers(runs: Mapping[str, Run], stage: VariedStage) -> dict[str, dict[str, Any]]:
    """Return the last numbers of a stage for each run: counts of a filter, or metrics."""
    if stage == "filter":
        return {
            name: read_json(run.path("funnel.json"))["table"]["all"] for name, run in runs.items()
        }
    keys = {
        "sft": ("loss", "mean_token_accuracy"),
        "rl": (
            *("perception/accuracy", "reasoning/accuracy"),
            *("reasoning/collapse", "joint/collapse"),  # lost for GRPO, lost for PA-GRPO
            "kl",
        ),
    }[stage]
    found = {}
    for name, run in runs.items():
        rows = metrics_of(run, stage)[-LAST_STEPS:]
        series = {key: [plots.drawable(row.get(key)) for row in rows] for key in keys}
        found[name] = {key: mean_interval(values)["mean"] for key, values in series.items()}
    return found


def metrics_of(run: Run, stage: VariedStage) -> list[dict[str, Any]]:
    """Return the metrics of a stage, one mapping per step."""
    folder = rl_stage(run.recipe.rl) if stage == "rl" else stage
    _needed(run, folder, "metrics.jsonl")
    return read_metrics(run, folder)


def changed_settings(first: Run, run: Run) -> str:
    """Return the settings in which a run differs from the first one, as `rl.beta=0.1`."""
    old, new = (each.recipe.model_dump(mode="json") for each in (first, run))
    return ", ".join(f"{key}={value[1]}" for key, value in differences(old, new).items())


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
