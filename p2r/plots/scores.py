"""Figures of results: metrics of models, and studies, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from p2r.plots.metrics import running_mean
from p2r.plots.style import COLOURS, DASHES, SYMBOLS, NotebookFigure, drawable, escape_label, styled
from p2r.runs.names import model_label


def results(results: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str) -> go.Figure:
    """Draw metrics of several models with their 95 % intervals, in percent."""
    figure = NotebookFigure()
    for place, (model, metrics) in enumerate(results.items()):
        known = {k: value for k, value in metrics.items() if "unit" not in value and value["n"]}
        means = [100 * value["mean"] for value in known.values()]
        highs = [100 * value["high"] for value in known.values()]
        lows = [100 * value["low"] for value in known.values()]
        figure.add_bar(
            x=[escape_label(metric) for metric in known],
            y=[round(mean, 1) for mean in means],
            name=escape_label(model_label(model)),
            marker_color=COLOURS[place % len(COLOURS)],
            error_y={
                "array": [round(h - m, 1) for h, m in zip(highs, means, strict=True)],
                "arrayminus": [round(m - low, 1) for m, low in zip(means, lows, strict=True)],
            },
        )
    return styled(figure, title, y="%").update_layout(barmode="group")


def study(result: Mapping[str, Any]) -> go.Figure:
    """Draw a study: for every shown metric, a point and an interval per view and arm.

    The interval is over seeds and questions. `result` is the content of `study_NAME.json`, as
    `p2r.studies.framework.result.read_result` returns it.
    """
    rows = [
        (view if len(result["views"]) > 1 else "", arm, values)
        for view, found in result["views"].items()
        for arm, values in found["arms"].items()
    ]
    metrics = [name for name in result["show"] if any(name in values for *_, values in rows)]
    figure = NotebookFigure(
        make_subplots(
            cols=max(1, len(metrics)),
            shared_yaxes=True,
            subplot_titles=[*map(escape_label, metrics)],
        )
    )
    for column, metric in enumerate(metrics, start=1):
        scale = 100 if result["units"].get(metric, "%") == "%" else 1
        for place, (arm, label) in enumerate(result["labels"].items()):
            found = [
                (f"{view}: {label}" if view else label, values[metric])
                for view, name, values in rows
                if name == arm and values.get(metric, {}).get("n")
            ]
            means = [value["mean"] * scale for _, value in found]
            ends = [value.get("over_both") or value for _, value in found]
            figure.add_scatter(
                x=[round(mean, 2) for mean in means],
                y=[escape_label(name) for name, _ in found],
                name=escape_label(label),
                showlegend=False,
                mode="markers",
                marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 9},
                marker_color=COLOURS[place % len(COLOURS)],
                error_x={
                    "array": [e["high"] * scale - m for e, m in zip(ends, means, strict=True)],
                    "arrayminus": [m - e["low"] * scale for e, m in zip(ends, means, strict=True)],
                },
                row=1,
                col=column,
            )
    styled(figure, escape_label(result["study"])).update_yaxes(autorange="reversed")
    return figure.update_layout(height=150 + 24 * len(rows))


def study_curves(result: Mapping[str, Any], window: int = 1) -> go.Figure:
    """Draw the curves of a study over the steps of RL: the mean over the seeds of every arm.

    `window`: running mean over so many steps. Raises ValueError if the study has no curves.
    """
    names = list(result["curves"])
    if not names:
        raise ValueError(f"the study {result['study']} has no curves")
    figure = NotebookFigure(
        make_subplots(cols=len(names), subplot_titles=[*map(escape_label, names)])
    )
    for column, curves in enumerate(result["curves"].values(), start=1):
        for arm, curve in curves.items():
            place = list(result["labels"]).index(arm)
            figure.add_scatter(
                x=curve["steps"],
                y=running_mean([drawable(value) for value in curve["mean"]], window),
                name=escape_label(result["labels"][arm]),
                legendgroup=str(place),
                showlegend=column == 1,
                mode="lines",
                line={
                    "color": COLOURS[place % len(COLOURS)],
                    "dash": DASHES[place // len(COLOURS) % len(DASHES)],
                },
                row=1,
                col=column,
            )
    return styled(figure, escape_label(result["study"]), "optimiser step")
