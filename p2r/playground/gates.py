"""The gates of the second world: numbers that its models must reach, read from a card.

A gate is *passed* if its number is in the range and enough questions were asked, otherwise *open*.
Two gates are for a model after SFT. They are *not asked* if the card is about another model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from p2r.playground.second.questions import KINDS

LEAST, LEAST_PER_KIND, LEAST_GROUPS = 300, 100, 100


class Limits(NamedTuple):
    """The range of a gate. None: no limit."""

    least: float | None
    most: float | None


GATES = {
    "right from given notes, worst kind": Limits(0.95, None),
    "true sentences": Limits(0.9, None),
    "accuracy given insufficient, above guessing": Limits(None, 0.05),
    "sufficient observations (after SFT)": Limits(0.3, 0.6),
    "perception groups not collapsed (after SFT)": Limits(0.4, None),
}


def gates(card: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every gate: its number with interval and n, its limits, and its state."""
    look_up = {kind: card["look up in text"][kind] for kind in KINDS}
    worst = min(look_up, key=lambda kind: look_up[kind]["mean"])
    fewest = min(row["n"] for row in look_up.values())
    intervals = card["traces"]["all"]["intervals"]
    groups = card.get("groups")
    found: dict[str, tuple[dict[str, Any] | None, bool]] = {
        "right from given notes, worst kind": (
            look_up[worst] | {"kind": worst},
            fewest >= LEAST_PER_KIND,
        ),
        "true sentences": _asked(intervals["faithful"]),
        "accuracy given insufficient, above guessing": _asked(intervals["above guessing"]),
        "sufficient observations (after SFT)": (
            _asked(intervals["sufficient"]) if groups else (None, False)
        ),
        "perception groups not collapsed (after SFT)": (
            (groups["perception"], groups["perception"]["n"] >= LEAST_GROUPS)
            if groups
            else (None, False)
        ),
    }
    enough = card["traces"]["all"]["n"] >= LEAST
    return {
        name: _state(number, GATES[name], asked and enough)
        for name, (number, asked) in found.items()
    }


def _asked(interval: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    return interval, interval["n"] > 0


def _state(number: dict[str, Any] | None, limits: Limits, enough: bool) -> dict[str, Any]:
    if number is None:
        return {**limits._asdict(), "value": None, "reached": False, "state": "not asked"}
    value = number["mean"]
    reached = (
        value is not None
        and (limits.least is None or value >= limits.least)
        and (limits.most is None or value <= limits.most)
    )
    state = "passed" if reached and enough else "open" if enough else "open: too few questions"
    interval: dict[str, Any] = {
        key: number[key] for key in ("low", "high", "n", "kind") if key in number
    }
    return {**limits._asdict(), "value": value, **interval, "reached": reached, "state": state}


def top_line(card: dict[str, Any]) -> str:
    """Return what one point of sufficient observations is worth in points of accuracy."""
    found = card["traces"]["all"]
    if found["gap"] is None:
        return "Unknown: all observations are sufficient, or none is."
    return (
        f"One point of sufficiency is worth {found['gap']:.2f} points of accuracy: answers are "
        f"right {found['exact given sufficient']:.0%} of the time after a sufficient observation "
        f"and {found['exact given insufficient']:.0%} after an insufficient one "
        f"(guessing: {found['guessing']:.0%})."
    )


# ---- as Markdown

_COLUMNS = ("exact", "sufficient", "sufficient and true", "faithful", "mismatch")
_GIVEN = ("exact given sufficient", "exact given insufficient")
_SKILLS = (
    ("look up", "look up in text", "mean"),
    ("from true notes", "answer from true notes", "mean"),
    ("follows note", "source followed", "note"),
)


def format_card(card: dict[str, Any]) -> str:
    """Return a card as Markdown: the top line, the gates, and one row per kind of question."""
    lines = [card["top line"], ""]
    if "gates" in card:
        lines += ["| gate | must be | found, % [95 %] | n | state |", "|---|---|---|---|---|"]
        lines += [_gate_row(name, gate) for name, gate in card["gates"].items()]
        lines.append("")
    skills = [skill for skill in _SKILLS if skill[1] in card]
    head = ("kind", "n", *(name for name, *_ in skills), *_COLUMNS, "sentences told", *_GIVEN)
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for kind, row in card["traces"].items():
        told = "–" if row["sentences told"] is None else f"{row['sentences told']:.2f}"
        texts = [kind, str(row["n"])]
        texts += [_percent(card[part][kind][column]) for _, part, column in skills]
        texts += [*(_percent(row[name]) for name in _COLUMNS), told]
        lines.append(f"| {' | '.join([*texts, *(_percent(row[name]) for name in _GIVEN)])} |")
    parts = card["traces"]["all"]["true by part"]
    lines += ["", "| part | true | n |", "|---|---|---|"]
    lines += [f"| {part} | {_percent(row['true'])} | {row['n']} |" for part, row in parts.items()]
    return "\n".join(lines) + "\n"


def _gate_row(name: str, gate: dict[str, Any]) -> str:
    ends = [f"≥ {100 * gate['least']:.0f}"] if gate["least"] is not None else []
    ends += [f"≤ {100 * gate['most']:.0f}"] if gate["most"] is not None else []
    found = _percent(gate["value"])
    if gate.get("low") is not None:
        found += f" [{_percent(gate['low'])}, {_percent(gate['high'])}]"
    name += f" ({gate['kind']})" if "kind" in gate else ""
    return f"| {name} | {', '.join(ends)} | {found} | {gate.get('n', '–')} | {gate['state']} |"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
