"""The figures of the notebooks and the case browser: Plotly figures, and pictures of frames.

Functions take plain data and return a figure. The colours differ also without colour vision
(Okabe and Ito), and colour alone never carries a meaning.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from PIL import Image, ImageDraw
from plotly.subplots import make_subplots

from p2r.pipeline.funnel import FUNNEL_STEPS
from p2r.records import Case
from p2r.rewards import CRITICS, rewards_in_use
from p2r.runs.names import model_label
from p2r.video import Frames

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up")
# One pattern less than there are colours, so that no two parts of a stack share both.
PATTERNS = ("", "/", ".", "x", "-")
HEIGHT = 340
# Orange and blue around white: the sign of an advantage and its size.
DIVERGING = ((0, "#D55E00"), (0.5, "#FFFFFF"), (1, "#0072B2"))


def _reward_parts(process: str) -> dict[str, str]:
    parts = {"accuracy": "accuracy", "format": "format", "length": "length_bonus"}
    return {name: f"{process}/{key}" for name, key in parts.items()}


# The curves of a training run: title -> (axis, {name in the legend: key of the metric}).
CURVES: dict[str, tuple[str, dict[str, str]]] = {
    "Reward of perception, by part": ("mean", _reward_parts("perception")),
    "Reward of reasoning, by part": ("mean", _reward_parts("reasoning")),
    "Collapsed groups": (
        "share of groups",
        {each: f"{each}/collapse" for each in ("perception", "reasoning")}
        | {"both": "joint/collapse"},
    ),
    "Length": ("tokens", {"perception": "perception/tokens", "reasoning": "reasoning/tokens"}),
    "Truth": (
        "share",
        {
            "true sentences": "faithful",
            "sufficient and true": "sufficient and true",
            "exact answers": "exact",
        },
    ),
    "Implicit perception loss": ("", {"KL": "masked_kl", "entropy, masked": "masked_entropy"}),
    "Critic": ("", {"loss": "critic/loss", "explained variance": "critic/explained"}),
    "Think–answer mismatch": ("share", {"mismatch": "mismatch", "rollouts": "reasoning/mismatch"}),
    "Drift from the start model": ("", {"KL": "kl", "entropy": "entropy"}),
    "Loss": ("", {"loss": "loss"}),
    "Token accuracy": ("share", {"accuracy": "mean_token_accuracy"}),
    "Unknown or truncated": ("share", {"judge unknown": "judge/unknown", "truncated": "truncated"}),
}
# Figures over several stages: name -> (title, axis, {line: key of the metric}). "lost" is added by
# `p2r plot`: the share of groups without a learning signal under the credit scheme of the stage.
COMPARISONS: dict[str, tuple[str, str, dict[str, str]]] = {
    "collapse": ("Groups without a learning signal", "share of groups", {"lost": "lost"}),
    "accuracy": (
        "Accuracy rewards",
        "mean",
        {"perception": "perception/accuracy", "reasoning": "reasoning/accuracy"},
    ),
    "reward": (
        "Rewards of both processes",
        "mean",
        {"perception": "rewards/perception/mean", "reasoning": "rewards/reasoning/mean"},
    ),
    "format": (
        "Format rewards",
        "mean",
        {"perception": "perception/format", "reasoning": "reasoning/format"},
    ),
    "length-reward": (
        "Length rewards",
        "mean",
        {"perception": "perception/length_bonus", "reasoning": "reasoning/length_bonus"},
    ),
    "length": (
        "Length of responses",
        "tokens",
        {"perception": "perception/tokens", "reasoning": "reasoning/tokens"},
    ),
    "mismatch": ("Think-answer mismatch", "share of rollouts", {"mismatch": "mismatch"}),
    "truth": ("True sentences", "share", {"faithful": "faithful"}),
}
# The metric of a stage's lost groups, by the process rewards that its credit scheme learns from.
LOST = {
    ("perception", "reasoning"): "joint/collapse",
    ("perception",): "perception/collapse",
    ("reasoning",): "reasoning/collapse",
}


def lost_metric(credit: str, rewards: Sequence[str]) -> str | None:
    """Return the metric that counts the groups from which a credit scheme learns nothing.

    None for a critic: it does not compare the rollouts of a group.
    """
    return None if credit in CRITICS else LOST[rewards_in_use(credit, rewards)]


# Figures of a data set: name -> title.
DATA_FIGURES = {"mix": "Records by problem type", "segments": "Length of the segments"}
DASHES = ("solid", "dash", "dot")
_FROM_ZERO = ("mean", "share", "share of groups")
_MANY_STEPS = 60  # more steps are drawn without markers


class NotebookFigure(go.Figure):
    """A figure that JupyterLab shows from its data.

    Plotly's default for notebooks also adds 5 MB of script to each figure.
    """

    def _ipython_display_(self) -> None:
        if pio.renderers.default == "plotly_mimetype+notebook":
            pio.show(self, renderer="plotly_mimetype")
        else:
            super()._ipython_display_()


def contact_sheet(frames: Frames, side: int = 112, columns: int = 8) -> Image.Image:
    """Return the sampled frames in rows, each with its time above it."""
    _, height, width, _ = frames.shape
    scale = side / height
    cell = (max(1, round(width * scale)), side)
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    sheet = Image.new("RGB", (columns * (cell[0] + 4), rows * (side + 16)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (pixels, time) in enumerate(zip(frames.frames, frames.timestamps, strict=True)):
        left, top = place % columns * (cell[0] + 4), place // columns * (side + 16)
        draw.text((left + 2, top + 2), f"{time:.2f} s", fill="black")
        picture = Image.fromarray(pixels).resize(cell, Image.Resampling.NEAREST)
        sheet.paste(picture, (left, top + 16))
    return sheet


def bars(counts: Mapping[str, float], title: str, unit: str = "") -> go.Figure:
    """Draw one bar per name."""
    bar = go.Bar(
        x=list(counts), y=list(counts.values()), text=list(counts.values()), marker_color=COLOURS[0]
    )
    return _styled(NotebookFigure(bar), title, y=unit)


def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    title: str,
    x_title: str,
    y_title: str = "",
) -> go.Figure:
    """Draw one line per name over common values of x; None leaves a gap."""
    figure = NotebookFigure()
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
    """Draw metrics over the steps of a training; `keys`: name in the legend → metric."""
    steps = [int(row["step"]) for row in metrics]
    series = {name: [drawable(row.get(key)) for row in metrics] for name, key in keys.items()}
    return lines(steps, series, title, "optimiser step", y_title)


def curves(name: str, rows: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """Draw one of `CURVES` over the steps of a stage; None if it wrote none of the metrics."""
    axis, keys = CURVES[name]
    series = {label: [drawable(row.get(key)) for row in rows] for label, key in keys.items()}
    series = {label: values for label, values in series.items() if set(values) - {None}}
    if not series:
        return None
    figure = lines([row["step"] for row in rows], series, "", "step", axis)
    if axis in _FROM_ZERO:
        figure.update_yaxes(rangemode="tozero")
    if len(rows) > _MANY_STEPS:
        figure.update_traces(mode="lines")
    return figure


def compare_stages(
    name: str, stages: Mapping[str, Sequence[Mapping[str, Any]]], window: int = 1
) -> go.Figure:
    """Draw one of `COMPARISONS` for several training stages in one figure.

    `stages`: label → the rows of its `metrics.jsonl`. A stage without any of the metrics of a line
    has no such line. `window`: running mean over so many steps. Raises ValueError if no stage has
    the metrics.
    """
    title, axis, keys = COMPARISONS[name]
    figure = NotebookFigure()
    for place, (label, rows) in enumerate(stages.items()):
        for part, (line, key) in enumerate(keys.items()):
            values = running_mean([drawable(row.get(key)) for row in rows], window)
            if set(values) <= {None}:
                continue
            figure.add_scatter(
                x=[row["step"] for row in rows],
                y=values,
                name=escape(f"{label}: {line}" if len(keys) > 1 else label),
                mode="lines+markers" if len(rows) <= _MANY_STEPS else "lines",
                marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 6},
                line={
                    "color": COLOURS[place % len(COLOURS)],
                    "dash": DASHES[part % len(DASHES)],
                },
            )
    if not figure.data:
        raise ValueError(f"no stage logged {', '.join(keys.values())}: give folders of RL stages")
    smooth = f" (mean over {window} steps)" if window > 1 else ""
    return _styled(figure, title + smooth, "optimiser step", axis).update_yaxes(rangemode="tozero")


def running_mean(values: Sequence[float | None], window: int) -> list[float | None]:
    """Return the mean of each value and the known ones before it, over `window` places."""
    means: list[float | None] = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - window) : end] if value is not None]
        means.append(round(sum(known) / len(known), 5) if known else None)
    return means


def step_time(rows: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """Draw the time of each step: its measured parts stacked, and the rest; None without parts."""
    keys = sorted({key for row in rows for key in row if key.startswith("time/")})
    if not keys:
        return None
    parts = {
        key.removeprefix("time/").replace("_", " "): [drawable(row.get(key)) or 0 for row in rows]
        for key in keys
    }
    totals = [drawable(row.get("step_time")) or 0 for row in rows]
    if any(totals):
        spent = [sum(values) for values in zip(*parts.values(), strict=True)]
        parts["rest of the step"] = [
            round(max(0.0, total - part), 4) for total, part in zip(totals, spent, strict=True)
        ]
    figure = NotebookFigure()
    for place, (name, values) in enumerate(parts.items()):
        figure.add_bar(
            x=[row["step"] for row in rows],
            y=values,
            name=escape(name),
            marker={
                "color": COLOURS[place % len(COLOURS)],
                "pattern": {"shape": PATTERNS[place % len(PATTERNS)], "size": 4},
                "line": {"width": 0},
            },
        )
    return _styled(figure, "", "step", "seconds").update_layout(barmode="stack", bargap=0)


def funnel(row: Mapping[str, int], title: str) -> go.Figure:
    """Draw the number of traces after each filter (a row of `p2r.pipeline.funnel.funnel`)."""
    trace = go.Funnel(
        y=list(FUNNEL_STEPS),
        x=[row[step] for step in FUNNEL_STEPS],
        textinfo="value+percent initial",
        marker_color=COLOURS[0],
    )
    return _styled(NotebookFigure(trace), title)


def mix(counts: Mapping[str, Mapping[str, int]]) -> go.Figure:
    """Draw the records of a data set by problem type, images and videos stacked.

    `counts`: image or video → problem type → records.
    """
    figure = NotebookFigure()
    kinds = list(dict.fromkeys(kind for row in counts.values() for kind in row))
    for place, (media, row) in enumerate(counts.items()):
        if row:
            figure.add_bar(
                x=kinds,
                y=[row.get(kind, 0) for kind in kinds],
                name=media,
                marker={
                    "color": COLOURS[place % len(COLOURS)],
                    "pattern": {"shape": PATTERNS[place % len(PATTERNS)]},
                },
            )
    return _styled(figure, DATA_FIGURES["mix"], y="records").update_layout(barmode="stack")


def segments(observed: Sequence[int], reasoned: Sequence[int], width: int = 20) -> go.Figure:
    """Draw how many traces have how many words in perception and in reasoning."""
    edges = np.arange(0, max(*observed, *reasoned) + 2 * width, width)
    series = {
        name: np.histogram(values, edges)[0].tolist()
        for name, values in (("perception", observed), ("reasoning", reasoned))
    }
    title = DATA_FIGURES["segments"]
    return lines(edges[:-1].tolist(), series, title, f"words (bins of {width})", "traces")


def lengths(cases: Sequence[Case], title: str) -> go.Figure:
    """Draw the lengths of perception and reasoning of the cases, in tokens."""
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
    """Draw the advantage of every token, one row per credit scheme; hover shows the token."""
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
    figure = _styled(NotebookFigure(heat), title, x="token")
    return figure.update_layout(height=130 + 60 * len(names))


def results(results: Mapping[str, Mapping[str, Mapping[str, Any]]], title: str) -> go.Figure:
    """Draw metrics of several models with their 95 % intervals, in percent."""
    figure = NotebookFigure()
    for place, (model, metrics) in enumerate(results.items()):
        shares = {k: value for k, value in metrics.items() if "unit" not in value}
        known = {name: value for name, value in shares.items() if value["n"]}
        means = [100 * value["mean"] for value in known.values()]
        highs = [100 * value["high"] for value in known.values()]
        lows = [100 * value["low"] for value in known.values()]
        figure.add_bar(
            x=list(known),
            y=[round(mean, 1) for mean in means],
            name=model_label(model),
            marker_color=COLOURS[place % len(COLOURS)],
            error_y={
                "array": [round(h - m, 1) for h, m in zip(highs, means, strict=True)],
                "arrayminus": [round(m - low, 1) for m, low in zip(means, lows, strict=True)],
            },
        )
    return _styled(figure, title, y="%").update_layout(barmode="group")


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
            cols=max(1, len(metrics)), shared_yaxes=True, subplot_titles=[*map(escape, metrics)]
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
                y=[escape(name) for name, _ in found],
                name=escape(label),
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
    _styled(figure, escape(result["study"])).update_yaxes(autorange="reversed")
    return figure.update_layout(height=150 + 24 * len(rows))


def study_curves(result: Mapping[str, Any], window: int = 1) -> go.Figure:
    """Draw the curves of a study over the steps of RL: the mean over the seeds of every arm.

    `window`: running mean over so many steps. Raises ValueError if the study has no curves.
    """
    names = list(result["curves"])
    if not names:
        raise ValueError(f"the study {result['study']} has no curves")
    figure = NotebookFigure(make_subplots(cols=len(names), subplot_titles=[*map(escape, names)]))
    for column, curves in enumerate(result["curves"].values(), start=1):
        for arm, curve in curves.items():
            place = list(result["labels"]).index(arm)
            figure.add_scatter(
                x=curve["steps"],
                y=running_mean([drawable(value) for value in curve["mean"]], window),
                name=escape(result["labels"][arm]),
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
    return _styled(figure, escape(result["study"]), "optimiser step")


def perception_by_answer(table: Mapping[str, Mapping[str, int]], title: str) -> go.Figure:
    """Draw the table of `p2r.scoring.thoughts.perception_by_answer`, without empty unknowns."""
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
    return _styled(NotebookFigure(heat), title).update_yaxes(autorange="reversed")


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


def drawable(value: Any) -> float | None:
    """Return a rounded number; None for a value that cannot be drawn: missing, NaN or infinite."""
    drawn = isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return round(float(value), 5) if drawn else None
