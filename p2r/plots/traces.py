"""Figures of data and traces: the funnel, lengths, the advantage of every token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from p2r.pipeline.funnel import FUNNEL_STEPS
from p2r.plots.style import COLOURS, DIVERGING, PATTERNS, NotebookFigure, lines, styled
from p2r.records import Case

# Figures of a data set: name -> title.
DATA_FIGURES = {"mix": "Records by problem type", "segments": "Length of the segments"}


def funnel(row: Mapping[str, int], title: str) -> go.Figure:
    """Draw the number of traces after each filter (a row of `p2r.pipeline.funnel.funnel`)."""
    trace = go.Funnel(
        y=list(FUNNEL_STEPS),
        x=[row[step] for step in FUNNEL_STEPS],
        textinfo="value+percent initial",
        marker_color=COLOURS[0],
    )
    return styled(NotebookFigure(trace), title)


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
    return styled(figure, DATA_FIGURES["mix"], y="records").update_layout(barmode="stack")


def segments(observed: Sequence[int], reasoned: Sequence[int], width: int = 20) -> go.Figure:
    """Draw how many traces have how many words in perception and in reasoning."""
    return _histogram(observed, reasoned, DATA_FIGURES["segments"], "words", width)


def lengths(cases: Sequence[Case], title: str) -> go.Figure:
    """Draw the lengths of perception and reasoning of the cases, in tokens."""
    looked = [case.trace.perception_tokens or 0 for case in cases]
    reasoned = [
        (case.trace.completion_tokens or 0) - count
        for case, count in zip(cases, looked, strict=True)
    ]
    return _histogram(looked, reasoned, title, "tokens", width=5)


def _histogram(
    perception: Sequence[int], reasoning: Sequence[int], title: str, unit: str, width: int
) -> go.Figure:
    edges = np.arange(0, max(*perception, *reasoning) + 2 * width, width)
    series = {
        name: np.histogram(values, edges)[0].tolist()
        for name, values in (("perception", perception), ("reasoning", reasoning))
    }
    return lines(edges[:-1].tolist(), series, title, f"{unit} (bins of {width})", "traces")


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
    figure = styled(NotebookFigure(heat), title, x="token")
    return figure.update_layout(height=130 + 60 * len(names))


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
    return styled(NotebookFigure(heat), title).update_yaxes(autorange="reversed")
