"""The curves of a run: what its stages wrote while they trained, and what was evaluated.

Files of a running stage may end in half a line: what can be read is drawn.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

# A file that changed within these seconds belongs to a stage that runs.
LIVE_SECONDS = 120
# Longer curves are thinned: a screen has no more points.
MOST_POINTS = 1500
PROCESSES = ("perception", "reasoning")
# One less than there are colours: no two parts have both in common.
_PATTERNS = ("", "/", ".", "x", "-")
# Figure -> (axis, {name in the legend: key of the metric}).
CURVES: dict[str, tuple[str, dict[str, str]]] = {
    "Reward of perception, by part": (
        "mean",
        {
            "accuracy": "perception/accuracy",
            "format": "perception/format",
            "length": "perception/length_bonus",
        },
    ),
    "Reward of reasoning, by part": (
        "mean",
        {
            "accuracy": "reasoning/accuracy",
            "format": "reasoning/format",
            "length": "reasoning/length_bonus",
        },
    ),
    "Collapsed groups": (
        "share of groups",
        {
            "perception": "perception/collapse",
            "reasoning": "reasoning/collapse",
            "both": "joint/collapse",
        },
    ),
    "Length": (
        "tokens",
        {"perception": "perception/tokens", "reasoning": "reasoning/tokens"},
    ),
    "Think–answer mismatch": ("share", {"mismatch": "mismatch", "rollouts": "reasoning/mismatch"}),
    "Drift from the start model": ("", {"KL": "kl", "entropy": "entropy"}),
    "Loss": ("", {"loss": "loss"}),
    "Accuracy of tokens": ("share", {"accuracy": "mean_token_accuracy"}),
    "What is unknown or cut": (
        "share",
        {
            "judge unknown": "judge/unknown",
            "truncated": "truncated",
        },
    ),
}


def find_metrics(run: Path) -> dict[str, Path]:
    """The metric files of a run by stage; links that lead out of the run are not followed."""
    found = {file.parent.name: file for file in sorted(run.glob("*/metrics.jsonl"))}
    return {name: file for name, file in found.items() if run.resolve() in file.resolve().parents}


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The rows of a metric file, of a step written twice the last; what is damaged is left out."""
    rows: dict[float, dict[str, Any]] = {}
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        step = row.get("step") if isinstance(row, dict) else None
        if _is_number(step):
            rows[step] = row
    return [rows[step] for step in sorted(rows)]


def read_results(run: Path) -> dict[str, dict[str, Any]]:
    """The metrics of evaluated models by name, with intervals; damaged files are left out."""
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


def stamp(run: Path) -> tuple[str, bool]:
    """What tells whether a run's curves have changed, and whether a stage is writing them."""
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
    return f"{newest:.3f}-{size}-{len(states)}", time.time() - newest < LIVE_SECONDS


def draw_run(run: Path) -> list[dict[str, Any]]:
    """Sections with figures, ready for Plotly: {"stage", "steps", "figures": [{"title", …}]}.

    Names come from folders and files: they are escaped, as Plotly reads markup in its labels.
    """
    sections = []
    for stage, file in find_metrics(run).items():
        rows = _thin(read_metrics(file))
        figures = [figure for name in CURVES if (figure := _draw_curves(name, rows))]
        figures += [figure] if (figure := _draw_time(rows)) else []
        if figures:
            last = rows[-1]["step"]
            sections.append({"stage": stage, "steps": last, "figures": figures})
    if results := read_results(run):
        figure = _draw_results(results)
        sections.append({"stage": "evaluation", "steps": None, "figures": [figure]})
    return sections


def _thin(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    every = -(-len(rows) // MOST_POINTS) or 1
    return rows[::-1][::every][::-1]


def _number(value: Any) -> float | None:
    return round(float(value), 5) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    """Whether a value can be drawn: neither infinite nor too large to be a float."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _draw_curves(title: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    from p2r import plots

    axis, keys = CURVES[title]
    series = {name: [_number(row.get(key)) for row in rows] for name, key in keys.items()}
    series = {name: values for name, values in series.items() if any(v is not None for v in values)}
    if not series:
        return None
    figure = plots.lines([row["step"] for row in rows], series, "", "step", axis)
    if axis in ("mean", "share", "share of groups"):
        # All zero is a line at the bottom, not in the middle.
        figure.update_yaxes(rangemode="tozero")
    if len(rows) > 60:
        figure.update_traces(mode="lines")
    return {"title": title, "figure": json.loads(figure.to_json())}


def _draw_time(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Where the time of a step goes: its parts stacked, and the rest of the step."""
    import plotly.graph_objects as go

    from p2r import plots

    names = sorted({key for row in rows for key in row if key.startswith("time/")})
    if not names:
        return None
    figure = plots.lines([], {}, "", "step", "seconds")
    steps = [row["step"] for row in rows]
    parts = {
        name.removeprefix("time/").replace("_", " "): [_number(r.get(name)) or 0 for r in rows]
        for name in names
    }
    if any(_number(row.get("step_time")) for row in rows):
        parts["rest of the step"] = [
            round(
                max(0.0, (_number(row.get("step_time")) or 0) - sum(p[n] for p in parts.values())),
                4,
            )
            for n, row in enumerate(rows)
        ]
    for place, (name, values) in enumerate(parts.items()):
        figure.add_trace(
            go.Bar(
                x=steps,
                y=values,
                name=escape(name),
                marker={
                    "color": plots.COLOURS[place % len(plots.COLOURS)],
                    "pattern": {"shape": _PATTERNS[place % len(_PATTERNS)], "size": 4},
                    "line": {"width": 0},
                },
            )
        )
    figure.update_layout(barmode="stack", bargap=0)
    return {"title": "Time budget of a step", "figure": json.loads(figure.to_json())}


def _draw_results(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    from p2r import plots

    safe = {
        escape(name): {escape(metric): value for metric, value in metrics.items()}
        for name, metrics in results.items()
    }
    figure = plots.results(safe, "")
    return {
        "title": "Evaluated models, with 95 % intervals",
        "figure": json.loads(figure.to_json()),
        "wide": True,
    }
