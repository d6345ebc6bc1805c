"""Static pictures of a study as SVG text. They need no other library and no browser.

`p2r.plots.study` and `p2r.plots.study_curve` draw the same as Plotly figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from p2r.plots import COLOURS
from p2r.studies.framework.tables import shown_metrics

ROW, PANEL, LABELS, TOP = 22, 210, 210, 46  # pixels
_DASHES = ("none", "6 3", "2 2")  # more arms than colours
_STYLE = "font-family:system-ui,sans-serif;font-size:12px;fill:#222"


def draw_views(result: Mapping[str, Any]) -> str:
    """Return a picture: a panel per shown metric, and in it a dot and an interval per arm."""
    rows = [
        (view if len(result["views"]) > 1 else "", arm, values)
        for view, found in result["views"].items()
        for arm, values in found["arms"].items()
    ]
    metrics = list(
        dict.fromkeys(m for view in result["views"].values() for m in shown_metrics(result, view))
    )
    arms = list(result["labels"])
    height = TOP + ROW * len(rows) + 30
    shapes = []
    for place, (view, arm, _) in enumerate(rows):
        label = result["labels"].get(arm, arm)
        text = f"{view}: {label}" if view else label
        shapes.append(_text(LABELS - 8, TOP + ROW * place + 16, text, "end"))
    for number, metric in enumerate(metrics):
        percent = result["units"].get(metric, "%") == "%"
        values = [_interval(values.get(metric), percent) for *_, values in rows]
        left = LABELS + PANEL * number
        low, high, ticks = _axis(value for triple in values if triple for value in triple)
        scale = _scale(low, high, left + 12, left + PANEL - 14)
        shapes.append(_text(left + PANEL / 2, 18, metric + (" (%)" if percent else ""), "middle"))
        for tick in ticks:
            shapes += [
                _line(scale(tick), TOP - 6, scale(tick), height - 30, "#ddd"),
                _text(scale(tick), height - 12, f"{tick:g}", "middle"),
            ]
        for place, ((_, arm, _), triple) in enumerate(zip(rows, values, strict=True)):
            if triple is None:
                continue
            y, colour = TOP + ROW * place + 12, COLOURS[arms.index(arm) % len(COLOURS)]
            mean, first, last = triple
            shapes += [
                _line(scale(first), y, scale(last), y, colour, 2),
                f'<circle cx="{scale(mean):.1f}" cy="{y}" r="4" fill="{colour}"/>',
            ]
    return _picture(LABELS + PANEL * max(1, len(metrics)), height, shapes)


def draw_curves(result: Mapping[str, Any]) -> str:
    """Return a picture: a panel per curve, with a line per arm and its interval over the seeds."""
    width, height = 300, 200
    shapes: list[str] = []
    arms = list(result["labels"])
    for place, (name, curves) in enumerate(result["curves"].items()):
        left, top = 40 + (place % 3) * (width + 40), 30 + (place // 3) * (height + 60)
        steps = [step for curve in curves.values() for step in curve["steps"]]
        if not steps:
            continue
        ends = [
            value
            for curve in curves.values()
            for key in ("mean", "low", "high")
            for value in curve[key]
            if value is not None
        ]
        low, high, ticks = _axis(ends)
        x, y = (
            _scale(min(steps), max(steps), left, left + width),
            _scale(low, high, top + height, top),
        )
        shapes.append(_text(left + width / 2, top - 10, name, "middle"))
        for tick in ticks:
            shapes += [
                _line(left, y(tick), left + width, y(tick), "#ddd"),
                _text(left - 4, y(tick) + 4, f"{tick:g}", "end"),
            ]
        shapes.append(_text(left + width, top + height + 16, f"step {max(steps)}", "end"))
        for arm, curve in curves.items():
            colour = COLOURS[arms.index(arm) % len(COLOURS)]
            if None not in curve["low"]:
                area = [*zip(curve["steps"], curve["low"], strict=True)]
                area += [*zip(curve["steps"], curve["high"], strict=True)][::-1]
                points = " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in area)
                shapes.append(f'<polygon points="{points}" fill="{colour}" opacity="0.12"/>')
            points = " ".join(
                f"{x(s):.1f},{y(v):.1f}" for s, v in zip(curve["steps"], curve["mean"], strict=True)
            )
            dash = _DASHES[arms.index(arm) // len(COLOURS) % len(_DASHES)]
            shapes.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
                f'stroke-dasharray="{dash}"/>'
            )
    rows = math.ceil(len(result["curves"]) / 3)
    bottom = 30 + rows * (height + 60)
    for place, arm in enumerate(arms):
        across, down = 40 + (place % 5) * 200, bottom + 20 * (place // 5)
        shapes.append(
            _line(across, down - 4, across + 18, down - 4, COLOURS[place % len(COLOURS)], 2)
        )
        shapes.append(_text(across + 24, down, result["labels"][arm], "start"))
    return _picture(3 * (width + 40) + 20, bottom + 20 * math.ceil(len(arms) / 5), shapes)


def _interval(measured: Any, percent: bool) -> tuple[float, float, float] | None:
    if not measured or measured["mean"] is None:
        return None
    ends = measured.get("over_both") or measured
    scale = 100 if percent else 1
    known = [measured["mean"] if v is None else v for v in (ends.get("low"), ends.get("high"))]
    return measured["mean"] * scale, known[0] * scale, known[1] * scale


def _axis(values: Iterable[float]) -> tuple[float, float, list[float]]:
    """Return the ends of an axis and its ticks: round numbers."""
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    span = (high - low) or max(abs(high), 1.0)
    raw = span / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    last += first == last
    return first * step, last * step, [round(n * step, 10) for n in range(first, last + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Any:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _picture(width: float, height: float, shapes: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="{_STYLE}"><rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )
