"""The Runs tab: reads the metrics that the stages of a run wrote, and draws them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.runs.metrics import read_metrics
from p2r.runs.names import is_of_split, model_label, model_place

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# A run is live if one of its files changed within these seconds.
LIVE_SECONDS = 120
# A longer curve is thinned: a screen cannot show more points.
MOST_POINTS = 1500


def find_metrics(run: Path) -> dict[str, Path]:
    """Return the metric files of a run by stage. Links that leave the run are not followed."""
    found = {file.parent.name: file for file in sorted(run.glob("*/metrics.jsonl"))}
    return {name: file for name, file in found.items() if run.resolve() in file.resolve().parents}


def read_results(run: Path) -> dict[str, dict[str, Any]]:
    """Return the metrics of the evaluated models by name. Damaged files are skipped."""
    found = {}
    for file in sorted(run.glob("eval/*.json")):
        try:
            metrics = json.loads(file.read_text(encoding="utf-8"))["metrics"]
            known = {
                name: value
                for name, value in metrics.items()
                if all(isinstance(value[key], int | float) for key in ("mean", "low", "high", "n"))
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if known:
            found[file.stem] = known
    return found


def stamp(run: Path, version: int) -> tuple[str, bool]:
    """Return a text that changes with the curves of a run, and whether a stage is writing them.

    `version`: the version of the store, which changes with the cases and their truths.
    """
    files = [*find_metrics(run).values(), *sorted(run.glob("eval/*.json"))]
    states = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        states.append((status.st_mtime, status.st_size))
    newest = max((when for when, _ in states), default=0.0)
    size = sum(size for _, size in states)
    return f"{newest:.3f}-{size}-{len(states)}-{version}", time.time() - newest < LIVE_SECONDS


def draw_run(run: Path, untrue: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return sections with figures for Plotly.

    A section is {"stage", "label", "steps", "figures": [{"title", "figure", "wide", "flat"}]}.
    First come the evaluated models, then the trainings with RL in one figure for each measure,
    then the stages. `untrue`: rows of `CaseStore.untrue_by_step`. `flat`: all values are 0.
    The page smooths the curves.
    """
    from p2r import plots

    sections = []
    if results := read_results(run):
        named = sorted(results.items(), key=lambda item: model_place(item[0]))
        figures = [
            {**_prepare(title, plots.results(chosen, "")), "wide": True}
            for title, other in (
                ("Evaluated models, with 95 % intervals", False),
                ("The same on other splits", True),
            )
            if (chosen := {name: row for name, row in named if is_of_split(name) is other})
        ]
        sections.append({"stage": "evaluation", "steps": None, "figures": figures})
    files = sorted(find_metrics(run).items(), key=lambda item: model_place(item[0]))
    stages = {stage: _thin(read_metrics(file)) for stage, file in files}
    together = [*_draw_together(stages), *_draw_untrue(untrue)]
    if len(stages) > 3:  # long legends
        together = [{**figure, "wide": True} for figure in together]
    if together:
        sections.append({"stage": "all trainings", "steps": None, "figures": together})
    for stage, rows in stages.items():
        drawn = {name: plots.curves(name, rows) for name in plots.CURVES}
        drawn["Time per step"] = plots.step_time(rows)
        figures = [_prepare(title, figure) for title, figure in drawn.items() if figure is not None]
        if figures:
            sections.append(
                {
                    "stage": stage,
                    "label": f"training: {model_label(stage)}",
                    "steps": rows[-1]["step"],
                    "figures": figures,
                }
            )
    return sections


def _draw_together(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the figures that compare the trainings with RL; none for fewer than two."""
    from p2r import plots

    named = {
        model_label(stage): rows
        for stage, rows in stages.items()
        if any(key.startswith("perception/") for row in rows[:1] for key in row)
    }
    figures = []
    for name in ("accuracy", "format", "length", "mismatch", "truth") if len(named) > 1 else ():
        try:
            figure = plots.compare_stages(name, named)
        except ValueError:  # no stage has the metric
            continue
        figures.append(_prepare(plots.COMPARISONS[name][0], figure))
    return figures


def _draw_untrue(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the figure of sufficient observations that are untrue, if it has a point."""
    from p2r import plots

    series: dict[str, dict[int, float]] = {}
    for row in rows:
        name = model_label(row["stage"].removeprefix("rl-"))
        series.setdefault(name, {})[row["step"]] = row["share"]
    if not series:
        return []
    steps = sorted({step for points in series.values() for step in points})
    lines = {name: [points.get(step) for step in steps] for name, points in series.items()}
    figure = plots.lines(steps, lines, "", "step", "share of sufficient")
    return [_prepare("Sufficient, but untrue", figure.update_yaxes(rangemode="tozero"))]


def _thin(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    every = -(-len(rows) // MOST_POINTS) or 1
    return rows[::-1][::every][::-1]


def _prepare(title: str, figure: Figure) -> dict[str, Any]:
    values = [value for trace in figure.data for value in (trace.y if trace.y is not None else ())]
    flat = bool(values) and not any(values)
    return {"title": title, "figure": json.loads(figure.to_json()), "flat": flat}
