"""Draws the checks of a pre-training as an SVG file, without another library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, RIGHT = 860, 340, 46, 28, 640
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")


def draw_curve(rows: Sequence[dict[str, Any]]) -> str:
    """Return the SVG of all checks over the steps of all stages.

    `rows` are lines of the published log. Of look-up, the mean and the worst kind are drawn.
    """
    checks = [row for row in rows if row.get("check")]
    last = max((row["total"] for row in rows), default=1)
    names = dict.fromkeys(name for row in checks for name in row["check"])
    shown = [n for n in names if "look up, " not in n or n.endswith(("mean", "worst kind"))]
    parts = [_text(LEFT, 16, "share right on held-out examples")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        parts.append(f'<path d="M{LEFT} {y:.0f}H{RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{share:g}", "end"))
    starts: dict[str, int] = {}
    for row in rows:
        starts.setdefault(row["stage"], row["total"] - row["step"])
    for place, (stage, start) in enumerate(starts.items()):
        x = _x(start, last)
        parts.append(f'<path d="M{x:.0f} {TOP}V{HEIGHT - 50}" stroke="#bbb" stroke-dasharray="3"/>')
        parts.append(_text(x + 3, HEIGHT - 36 + 14 * (place % 2), stage))
    parts.append(_text(RIGHT, HEIGHT - 6, f"stages; {last:,} steps in all", "end"))
    for place, name in enumerate(shown):
        colour = COLOURS[place % len(COLOURS)]
        points = [
            (_x(row["total"], last), _y(row["check"][name]))
            for row in checks
            if name in row["check"]
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
        y = TOP + 18 * place
        parts.append(f'<path d="M{RIGHT + 16} {y}h20" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(RIGHT + 42, y + 4, name))
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


def _x(step: float, last: float) -> float:
    return LEFT + (RIGHT - LEFT) * step / last


def _y(share: float) -> float:
    return TOP + (HEIGHT - 50 - TOP) * (1 - share)


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'
