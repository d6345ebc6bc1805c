"""The notebooks' figures: Plotly where a reader wants to read off values, pictures for frames.

Functions take plain data and return a figure. Colours are told apart without colour vision
(Okabe and Ito), and never carry a meaning alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from PIL import Image, ImageDraw

from p2r.pipeline.funnel import FUNNEL_STEPS
from p2r.records import Case
from p2r.runs.names import MODEL_LABELS
from p2r.video import Frames

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up")
HEIGHT = 340
# Red and blue around white: of which sign an advantage is, and how large.
DIVERGING = ((0, "#D55E00"), (0.5, "#FFFFFF"), (1, "#0072B2"))

if pio.renderers.default == "plotly_mimetype+notebook":
    # JupyterLab shows the figure's data itself; the other form puts 5 MB of script into each one.
    pio.renderers.default = "plotly_mimetype"


def contact_sheet(frames: Frames, side: int = 112) -> Image.Image:
    """Sampled frames in a row, each under its time."""
    _, height, width, _ = frames.shape
    scale = side / height
    cell = (max(1, round(width * scale)), side)
    sheet = Image.new("RGB", (len(frames) * (cell[0] + 4), side + 16), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (pixels, time) in enumerate(zip(frames.frames, frames.timestamps, strict=True)):
        left = place * (cell[0] + 4)
        draw.text((left + 2, 2), f"{time:.2f} s", fill="black")
        sheet.paste(Image.fromarray(pixels).resize(cell, Image.Resampling.NEAREST), (left, 16))
    return sheet


def bars(counts: Mapping[str, float], title: str, unit: str = "") -> go.Figure:
    """One bar per name."""
    bar = go.Bar(
        x=list(counts), y=list(counts.values()), text=list(counts.values()), marker_color=COLOURS[0]
    )
    return _styled(go.Figure(bar), title, y=unit)


def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    title: str,
    x_title: str,
    y_title: str = "",
) -> go.Figure:
    """One line per name over common values of x; None leaves a gap."""
    figure = go.Figure()
    for place, (name, values) in enumerate(series.items()):
        figure.add_scatter(
            x=list(x),
            y=list(values),
            name=name,
            mode="lines+markers",
            marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 6},
            line_color=COLOURS[place % len(COLOURS)],
        )
    return _styled(figure, title, x=x_title, y=y_title)


def training(
    metrics: Sequence[Mapping[str, float]], keys: Mapping[str, str], title: str, y_title: str = ""
) -> go.Figure:
    """Metrics of a training over its steps; `keys`: name in the legend → key of the metric."""
    steps = [int(row["step"]) for row in metrics]
    series = {name: [_rounded(row.get(key)) for row in metrics] for name, key in keys.items()}
    return lines(steps, series, title, "optimiser step", y_title)


def funnel(row: Mapping[str, int], title: str) -> go.Figure:
    """How many traces reach each step of the filter (a row of `p2r.pipeline.funnel.funnel`)."""
    trace = go.Funnel(
        y=list(FUNNEL_STEPS),
        x=[row[step] for step in FUNNEL_STEPS],
        textinfo="value+percent initial",
        marker_color=COLOURS[0],
    )
    return _styled(go.Figure(trace), title)


def lengths(cases: Sequence[Case], title: str) -> go.Figure:
    """How long the two processes of the cases are, in tokens."""
    looked = [case.trace.perception_tokens or 0 for case in cases]
    reasoned = [
        (case.trace.completion_tokens or 0) - count
        for case, count in zip(cases, looked, strict=True)
    ]
    edges = np.arange(0, max(*looked, *reasoned) + 10, 5)
    series = {
        name: np.histogram(values, edges)[0].tolist()
        for name, values in (("perception", looked), ("reasoning", reasoned))
    }
    return lines(edges[:-1].tolist(), series, title, "tokens (bins of 5)", "traces")


def token_credit(
    tokens: Sequence[str], advantages: Mapping[str, Sequence[float]], title: str
) -> go.Figure:
    """The advantage of every token, one row per credit scheme; hover to read the token."""
    names = list(advantages)
    values = [[round(float(a), 3) for a in advantages[name]] for name in names]
    bound = max((abs(v) for row in values for v in row), default=0) or 1
    heat = go.Heatmap(
        z=values,
        y=names,
        customdata=[[repr(token) for token in tokens]] * len(names),
        hovertemplate="%{customdata}<br>%{y}: %{z}<extra></extra>",
        colorscale=DIVERGING,
        zmin=-bound,
        zmax=bound,
        colorbar_title="advantage",
    )
    figure = _styled(go.Figure(heat), title, x="token")
    return figure.update_layout(height=130 + 60 * len(names))


def results(results: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str) -> go.Figure:
    """Metrics of several models with their 95 % intervals, in percent."""
    figure = go.Figure()
    for place, (model, metrics) in enumerate(results.items()):
        known = {name: value for name, value in metrics.items() if value["n"]}
        means = [100 * value["mean"] for value in known.values()]
        highs = [100 * value["high"] for value in known.values()]
        lows = [100 * value["low"] for value in known.values()]
        figure.add_bar(
            x=list(known),
            y=[round(mean, 1) for mean in means],
            name=MODEL_LABELS.get(model, model),
            marker_color=COLOURS[place % len(COLOURS)],
            error_y={
                "array": [round(h - m, 1) for h, m in zip(highs, means, strict=True)],
                "arrayminus": [round(m - low, 1) for m, low in zip(means, lows, strict=True)],
            },
        )
    return _styled(figure, title, y="%").update_layout(barmode="group")


def perception_by_answer(table: Mapping[str, Mapping[str, int]], title: str) -> go.Figure:
    """The 2 x 2 of `p2r.scoring.thoughts.perception_by_answer`, with its unknown cells if any."""
    rows = [row for row in table if row != "unknown" or any(table[row].values())]
    columns = [
        column
        for column in ("right", "wrong", "unknown")
        if column != "unknown" or any(table[row][column] for row in rows)
    ]
    counts = [[table[row][column] for column in columns] for row in rows]
    heat = go.Heatmap(
        z=counts,
        x=[f"{column} answer" for column in columns],
        y=[f"{row} observation" for row in rows],
        text=counts,
        texttemplate="%{text}",
        textfont_size=20,
        colorscale=((0, "#FFFFFF"), (1, COLOURS[4])),
        showscale=False,
    )
    return _styled(go.Figure(heat), title).update_yaxes(autorange="reversed")


def _styled(figure: go.Figure, title: str, x: str = "", y: str = "") -> go.Figure:
    figure.update_xaxes(title=x, gridcolor="#DDDDDD", zerolinecolor="#BBBBBB")
    figure.update_yaxes(title=y, gridcolor="#DDDDDD", zerolinecolor="#BBBBBB")
    return figure.update_layout(
        title=title,
        height=HEIGHT,
        template="none",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        yaxis_automargin=True,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 4)
