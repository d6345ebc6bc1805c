"""Compares two result files item by item: who gained, and is it more than chance?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p2r.errors import DataError
from p2r.evaluation.benchmark import EXTRACTORS, Item
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.results import Result
from p2r.evaluation.score import score_item
from p2r.scoring import format_interval, mcnemar, mean_interval

RIGHT = 0.5  # a score of at least this counts as right in the 2 × 2 table


def compare(a: Result, b: Result) -> dict[str, Any]:
    """Pair the items of two results of one benchmark by id, and compare them by each extractor.

    Returns for "official" and "robust": both means over the pairs, the difference b - a with its
    interval, {"both", "only a", "only b", "neither"}, the p-value of McNemar's exact test, and the
    same for each part of the main axis. An item is counted but not compared if only one result has
    it, or if the extractor leaves it out in one of them. Raises `DataError` for results of two
    benchmarks, or without a common item.
    """
    if a.benchmark != b.benchmark:
        raise DataError(
            f"cannot compare results of {a.benchmark} and {b.benchmark}: "
            "give two results of one benchmark"
        )
    other = {item.id: item for item in b.items}
    pairs = [(item, other[item.id]) for item in a.items if item.id in other]
    if not pairs:
        raise DataError(
            "the two results have no item in common: give results whose ids come from one file"
        )
    for item in (*a.items, *b.items):
        score_item(a.benchmark, item)
    axis = find_benchmark(a.benchmark).axes[0]
    return {
        "benchmark": a.benchmark,
        "models": [a.model, b.model],
        "pairs": len(pairs),
        "unpaired": [len(a.items) - len(pairs), len(b.items) - len(pairs)],
        "truth differs": sum(x.truth != y.truth for x, y in pairs),
        **{name: _by_extractor(pairs, name, axis) for name in EXTRACTORS},
    }


def _by_extractor(pairs: Sequence[tuple[Item, Item]], name: str, axis: str) -> dict[str, Any]:
    known = [
        (x, p, q)
        for x, y in pairs
        if (p := x.score[name]) is not None and (q := y.score[name]) is not None
    ]
    whole = _row([(p, q) for _, p, q in known])
    groups: dict[str, list[tuple[float, float]]] = {}
    for item, p, q in known:
        if value := item.parts.get(axis):
            groups.setdefault(value, []).append((p, q))
    return {
        **whole,
        "left out": len(pairs) - len(known),
        "parts": {value: _row(scores) for value, scores in sorted(groups.items())},
    }


def _row(scores: Sequence[tuple[float, float]]) -> dict[str, Any]:
    table = {"both": 0, "only a": 0, "only b": 0, "neither": 0}
    names = {(True, True): "both", (True, False): "only a", (False, True): "only b"}
    for p, q in scores:
        table[names.get((p >= RIGHT, q >= RIGHT), "neither")] += 1
    return {
        "a": mean_interval(p for p, _ in scores),
        "b": mean_interval(q for _, q in scores),
        "difference": mean_interval(q - p for p, q in scores),
        "table": table,
        "p": mcnemar(table["only a"], table["only b"]),
        "n": len(scores),
    }


def comparison_markdown(found: dict[str, Any]) -> str:
    """Return the comparison as a Markdown table."""
    a, b = (_cell(name) for name in found["models"])
    lines = [
        f"{find_benchmark(found['benchmark']).title}: {found['pairs']} pairs; only in A "
        f"{found['unpaired'][0]}, only in B {found['unpaired'][1]}",
        f"A = {a}, B = {b}; % [95 % interval]; p: McNemar's exact test",
        "",
        "| extractor | part | n | A | B | B − A | both | only A | only B | neither | p |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in EXTRACTORS:
        rows = {"all": found[name], **found[name]["parts"]}
        for part, row in rows.items():
            counts = " | ".join(map(str, row["table"].values()))
            values = " | ".join(percent(row[key]) for key in ("a", "b", "difference"))
            lines.append(
                f"| {name} | {_cell(part)} | {row['n']} | {values} | {counts} | {row['p']:.3g} |"
            )
    return "\n".join(lines) + "\n"


def percent(interval: dict[str, Any] | None) -> str:
    """Format an interval in percent, as `63.0 [57.1, 68.2]`; a dash if there is no value."""
    return format_interval(interval, digits=1, between=", ")


def _cell(text: str) -> str:
    """Return a text that is safe in a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
