"""Static pictures of a study as SVG text. They need no other library and no browser.

`p2r.plots.study` and `p2r.plots.study_curves` draw the same as Plotly figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from p2r.plots import COLOURS, running_mean
from p2r.studies.framework.tables import shown_metrics

ROW, PANEL, LABELS, TOP = 22, 210, 210, 46  # pixels
_DASHES = ("none", "6 3", "2 2")  # more arms than colours
_BANDS = 4  # more arms are drawn without their intervals
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
        scale = _scale(low, high, left + 22, left + PANEL - 22)
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
    """Return a picture: a panel per curve, with a line per arm and its interval over the seeds.

    Lines and intervals are running means over a twelfth of the steps. An interval that is much
    wider than the curves differ is cut at the border of its panel. With many arms, only the means
    are drawn.
    """
    width, height = 300, 200
    shapes: list[str] = []
    arms = list(dict.fromkeys(arm for curves in result["curves"].values() for arm in curves))
    for place, (name, curves) in enumerate(result["curves"].items()):
        left, top = 50 + (place % 3) * (width + 50), 30 + (place // 3) * (height + 60)
        lines = {arm: _smooth(curve) for arm, curve in curves.items() if curve["steps"]}
        steps = [step for curve in lines.values() for step in curve["steps"]]
        if not steps:
            continue
        low, high, ticks = _axis(_visible(lines.values()))
        x = _scale(min(steps), max(steps), left, left + width)
        y = _scale(low, high, top + height, top)
        shapes.append(_text(left + width / 2, top - 10, name, "middle"))
        for tick in ticks:
            shapes += [
                _line(left, y(tick), left + width, y(tick), "#ddd"),
                _text(left - 4, y(tick) + 4, f"{tick:g}", "end"),
            ]
        shapes.append(_text(left + width, top + height + 16, f"step {max(steps)}", "end"))
        for arm, curve in lines.items():
            colour, dash = _line_style(arms.index(arm))
            if None not in curve["low"] and len(lines) <= _BANDS:
                ends = [*zip(curve["steps"], curve["low"], strict=True)]
                ends += [*zip(curve["steps"], curve["high"], strict=True)][::-1]
                area = [(x(step), y(min(max(value, low), high))) for step, value in ends]
                shapes.append(f'<polygon points="{_points(area)}" fill="{colour}" opacity="0.12"/>')
            mean = [(x(s), y(v)) for s, v in zip(curve["steps"], curve["mean"], strict=True)]
            shapes.append(
                f'<polyline points="{_points(mean)}" fill="none" stroke="{colour}" '
                f'stroke-width="2" stroke-dasharray="{dash}"/>'
            )
    bottom = 30 + math.ceil(len(result["curves"]) / 3) * (height + 60)
    for place, arm in enumerate(arms):
        across, down = 50 + (place % 4) * 250, bottom + 20 * (place // 4)
        colour, dash = _line_style(place)
        shapes.append(_line(across, down - 4, across + 24, down - 4, colour, 2, dash))
        shapes.append(_text(across + 30, down, result["labels"].get(arm, arm), "start"))
    return _picture(3 * (width + 50) + 20, bottom + 20 * math.ceil(len(arms) / 4), shapes)


def _smooth(curve: Mapping[str, Any]) -> dict[str, list[Any]]:
    window = max(1, len(curve["steps"]) // 12)
    lines = {key: running_mean(curve[key], window) for key in ("mean", "low", "high")}
    return {"steps": curve["steps"], **lines}


def _visible(lines: Iterable[Mapping[str, Any]]) -> list[float]:
    """Return the values that an axis must show: all means, and intervals that are not too wide."""
    lines = list(lines)
    means = [value for line in lines for value in line["mean"] if value is not None]
    span = (max(means) - min(means)) or abs(max(means)) or 1.0
    least, most = min(means) - span / 2, max(means) + span / 2
    ends = [v for line in lines for key in ("low", "high") for v in line[key] if v is not None]
    return means + [min(max(value, least), most) for value in ends]


def _line_style(place: int) -> tuple[str, str]:
    return COLOURS[place % len(COLOURS)], _DASHES[place // len(COLOURS) % len(_DASHES)]


def _points(places: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


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


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: int = 1, dash: str = "none"
) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"/>'


def _picture(width: float, height: float, shapes: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="{_STYLE}"><rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )
