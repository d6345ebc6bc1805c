"""The style of all figures, and the simplest figures: bars and lines.

The colours differ also without colour vision (Okabe and Ito), and colour alone never carries a
meaning.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up")
# One pattern less than there are colours, so that no two parts of a stack share both.
PATTERNS = ("", "/", ".", "x", "-")
DASHES = ("solid", "dash", "dot")
HEIGHT = 340
# Orange and blue around white: the sign of an advantage and its size.
DIVERGING = ((0, "#D55E00"), (0.5, "#FFFFFF"), (1, "#0072B2"))


class NotebookFigure(go.Figure):
    """A figure that JupyterLab shows from its data.

    Plotly's default for notebooks also adds 5 MB of script to each figure.
    """

    def _ipython_display_(self) -> None:
        if pio.renderers.default == "plotly_mimetype+notebook":
            pio.show(self, renderer="plotly_mimetype")
        else:
            super()._ipython_display_()


def styled(figure: go.Figure, title: str, x: str = "", y: str = "") -> go.Figure:
    """Give a figure its title, axes and size."""
    figure.update_xaxes(title=x, gridcolor="#DDDDDD", zerolinecolor="#BBBBBB")
    figure.update_yaxes(title=y, gridcolor="#DDDDDD", zerolinecolor="#BBBBBB")
    return framed(figure, title)


def framed(figure: go.Figure, title: str, height: int = HEIGHT) -> go.Figure:
    """Give a figure its title, size (pixels) and margins."""
    return figure.update_layout(
        title=title,
        height=height,
        template="none",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        yaxis_automargin=True,
    )


def drawable(value: Any) -> float | None:
    """Return a rounded number; None for a value that cannot be drawn: missing, NaN or infinite."""
    drawn = isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return round(float(value), 5) if drawn else None


def bars(counts: Mapping[str, float], title: str, unit: str = "") -> go.Figure:
    """Draw one bar per name."""
    bar = go.Bar(
        x=list(counts), y=list(counts.values()), text=list(counts.values()), marker_color=COLOURS[0]
    )
    return styled(NotebookFigure(bar), title, y=unit)


def escape_label(text: str) -> str:
    """Escape a text for Plotly, which reads tags and some entities, but not `&quot;`."""
    return escape(text, quote=False)


def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    title: str,
    x_title: str,
    y_title: str = "",
) -> go.Figure:
    """Draw one line per name over common values of x; None leaves a gap. Escapes the names."""
    figure = NotebookFigure()
    for place, (name, values) in enumerate(series.items()):
        figure.add_scatter(
            x=list(x),
            y=list(values),
            name=escape_label(name),
            mode="lines+markers",
            marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 6},
            line_color=COLOURS[place % len(COLOURS)],
        )
    return styled(figure, title, x=x_title, y=y_title)
