"""The tables of a study's result: plain rows of text, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, Literal

from p2r.files.safe_text import show_unseen
from p2r.scoring.statistics import format_interval
from p2r.studies.framework.usage import KINDS

Rows = list[list[str]]
NO_VALUE = "–"
# Keys of `metrics.jsonl` that are not shares, without the part before the last slash.
_NUMBERS = {
    *("tokens", "cost", "calls", "length_bonus", "reward", "kl", "loss", "entropy", "grad_norm"),
    *("reward_std", "advantage", "rounds", "explained"),
}


def show_value(
    measured: Mapping[str, Any] | None, unit: str, seeds: bool = False, between: str = " "
) -> str:
    """Return a mean with its interval over seeds and questions, in percent or in its unit.

    `seeds`: also the mean of every seed, if there are several, after `between`.
    """
    if not measured or measured["mean"] is None:
        return NO_VALUE
    ends = measured.get("over_both") or measured
    interval = {"mean": measured["mean"], "low": ends.get("low"), "high": ends.get("high")}
    scale = 1.0 if unit == "%" else 0.01
    scaled = {key: None if value is None else value * scale for key, value in interval.items()}
    text = format_interval(scaled, digits=0 if unit == "%" else 1, between=", ")
    each = measured.get("per_seed") or []
    if not seeds or len(each) < 2:
        return text
    shown = (NO_VALUE if value is None else f"{100 * value * scale:.1f}" for value in each)
    return f"{text}{between}({' '.join(shown)})"


def shown_metrics(result: Mapping[str, Any], view: Mapping[str, Any]) -> list[str]:
    """Return the metrics of a view that the study shows."""
    known = {name for arm in view["arms"].values() for name in arm}
    return [name for name in result["show"] if name in known]


def header(result: Mapping[str, Any], metrics: Sequence[str]) -> list[str]:
    """Return the names of metrics with their unit, unless it is percent."""
    units = result["units"]
    return [
        name if (unit := units.get(name, "%")) == "%" or unit in name else f"{name}, {unit}"
        for name in metrics
    ]


def view_rows(
    result: Mapping[str, Any], name: str, seeds: bool = False, between: str = " "
) -> Rows:
    """Return the table of a view: a row of names, one row per arm, one row per difference."""
    view = result["views"][name]
    metrics = shown_metrics(result, view)

    def row(label: str, values: Mapping[str, Any]) -> list[str]:
        units = result["units"]
        return [
            label,
            *(show_value(values.get(m), units.get(m, "%"), seeds, between) for m in metrics),
        ]

    labels = result["labels"]
    return [
        [f"{view['questions']} questions", *header(result, metrics)],
        *(row(labels.get(arm, arm), values) for arm, values in view["arms"].items()),
        *(row(_pair(pair, labels), values) for pair, values in view["differences"].items()),
    ]


def _pair(pair: str, labels: Mapping[str, str]) -> str:
    return " − ".join(labels.get(name, name) for name in pair.split(" - "))


def view_difference_rows(result: Mapping[str, Any], pair: str) -> Rows:
    """Return the table of one difference between two views, a row per arm."""
    arms = result["view_differences"][pair]
    known = {name for values in arms.values() for name in values}
    metrics = [name for name in result["show"] if name in known]
    return [
        [pair.replace(" - ", " − "), *header(result, metrics)],
        *(
            [
                result["labels"].get(arm, arm),
                *(show_value(values.get(m), result["units"].get(m, "%")) for m in metrics),
            ]
            for arm, values in arms.items()
        ),
    ]


def part_rows(result: Mapping[str, Any], view: str, axis: str) -> Rows:
    """Return the shown metrics by part of the questions: a row per part, arm and difference."""
    parts = result["views"][view]["by"][axis]
    metrics, labels = shown_metrics(result, result["views"][view]), result["labels"]
    return [
        [axis, "n", "model", *header(result, metrics)],
        *(
            [
                part,
                str(found["questions"]),
                _pair(name, labels) if " - " in name else labels.get(name, name),
                *(show_value(values.get(m), result["units"].get(m, "%")) for m in metrics),
            ]
            for part, found in parts.items()
            for name, values in (found["arms"] | found.get("differences", {})).items()
        ),
    ]


def curve_rows(result: Mapping[str, Any], steps: Literal["last", "all"] = "last") -> Rows:
    """Return the mean of every curve over the last or all steps of RL.

    The arms have the first rows, and the differences have the last rows.
    """
    more = result.get("curve_differences", {})
    curves = {name: arms | more.get(name, {}) for name, arms in result["curves"].items()}
    arms = list(dict.fromkeys(arm for found in curves.values() for arm in found))
    labels = {arm: _pair(arm, result["labels"]) if " - " in arm else arm for arm in arms}
    labels |= result["labels"]

    def cell(name: str, arm: str) -> str:
        mean = curves[name].get(arm, {}).get(steps)
        unit = "number" if name.rpartition("/")[2] in _NUMBERS else "%"
        return show_value(mean, result["units"].get(name, unit))

    return [
        [f"{steps} steps of RL", *curves],
        *([labels[arm], *(cell(name, arm) for name in curves)] for arm in arms),
    ]


def budget_rows(result: Mapping[str, Any]) -> Rows:
    """Return settings, data and compute of every arm."""
    passes = ("forward", "backward")  # of a response in RL
    heads = ("SFT examples", "rollouts", *(f"{name} passes" for name in passes))
    rows = [["arm", "settings", "stages", *heads, "minutes per model"]]
    for arm, budget in result["budgets"].items():
        seconds = result["seconds"].get(arm)
        rows.append(
            [
                result["labels"].get(arm, arm),
                ", ".join(f"`{each}`" for each in result["overrides"].get(arm, ())) or NO_VALUE,
                ", ".join(budget["stages"]) or NO_VALUE,
                NO_VALUE if budget["sft_examples"] is None else str(budget["sft_examples"]),
                str(budget["rollouts"]),
                *(str(budget.get(name, NO_VALUE)) for name in passes),
                NO_VALUE if seconds is None else f"{seconds / 60:.1f}",
            ]
        )
    return rows


def usage_tables(result: Mapping[str, Any]) -> list[Rows]:
    """Return a table of each kind of usage: a row per arm, a column per view.

    A cell has the mean, and in parentheses the lowest and the highest value of the seeds.
    """
    views = {name: view.get("usage") or {} for name, view in result["views"].items()}
    found: list[Rows] = []
    for key, title in KINDS.items():
        arms = [
            n for n in result["labels"] if any(key in used.get(n, {}) for used in views.values())
        ]
        rows = [
            [result["labels"][n], *(_usage(used.get(n, {}).get(key)) for used in views.values())]
            for n in arms
        ]
        if rows:
            found.append([[title, *views], *rows])
    return found


def _usage(value: Mapping[str, float] | None) -> str:
    if value is None:
        return NO_VALUE
    mean, low, high = (_three_digits(value[key]) for key in ("mean", "low", "high"))
    return mean if low == high else f"{mean} ({low} to {high})"


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def markdown(rows: Rows) -> str:
    """Return rows as a Markdown table; the first row is the head.

    Names of parts come from question files: they become no HTML, no link and no picture.
    """
    changed = (("|", "\\|"), ("\n", " "), ("<", "&lt;"), ("](", "]\\("))
    safe = [
        [reduce(lambda text, pair: text.replace(*pair), changed, show_unseen(cell)) for cell in row]
        for row in rows
    ]
    head, *body = (f"| {' | '.join(row)} |" for row in safe)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body]) + "\n"


def agreement_rows(result: Mapping[str, Any], paper: Any) -> Rows:
    """Return the paper's values next to the study's values, and whether the order agrees.

    For every pair whose values the paper prints: "agrees" if the interval of our difference is on
    the paper's side of 0, "opposite" if it is on the other side, else "undecided".
    """
    rows = [["pair", f"{paper.where}", f"this study, {paper.metric}", "order"]]
    for label, first, second, measured in _pairs(result, paper):
        ends = measured.get("over_both") or measured
        quoted = paper.values[first] - paper.values[second]
        order = "undecided"
        if ends.get("low") is not None and quoted:
            low, high = sorted((ends["low"] * quoted, ends["high"] * quoted))
            order = "agrees" if low > 0 else "opposite" if high < 0 else "undecided"
        rows.append([label, f"{quoted:+.1f}", show_value(measured, "%"), order])
    return rows


def _pairs(result: Mapping[str, Any], paper: Any) -> list[tuple[str, str, str, Mapping[str, Any]]]:
    found = []
    if paper.of == "view":
        for pair, arms in result["view_differences"].items():
            a, b = pair.split(" - ")
            for arm, values in arms.items():
                if {a, b} <= set(paper.values) and paper.metric in values:
                    label = f"{result['labels'].get(arm, arm)}: {a} − {b}"
                    found.append((label, a, b, values[paper.metric]))
        return found
    view = next(iter(result["views"].values()))
    for pair, values in view["differences"].items():
        a, b = pair.split(" - ")
        if {a, b} <= set(paper.values) and paper.metric in values:
            found.append((_pair(pair, result["labels"]), a, b, values[paper.metric]))
    return found
