"""Puts result files beside the paper's tables. Every row is marked as quoted or measured.

Quoted rows are the paper's, in percent, without n. Measured rows come from result files: an
interval with n, by both extractors. An average is shown only over all seven benchmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p2r.errors import DataError
from p2r.evaluation.benchmark import EXTRACTORS, Item
from p2r.evaluation.compare import percent
from p2r.evaluation.paper import SOURCE, TITLES, Row, paper_columns, quoted_tables
from p2r.evaluation.readers import mismatch_by_reader
from p2r.evaluation.results import Result, case_of, rescore
from p2r.scoring import mean_interval
from p2r.scoring.thoughts import mismatch

Cells = dict[str, dict[str, Any]]


def build_report(results: Sequence[Result]) -> dict[str, Any]:
    """Return Tables 1, 2, 4, 5, 6 and 7 by number.

    A table is {"title", "quoted": {row: {column: %}}, "measured": {row: {column: interval}}}.
    Several results of one model share a row. A result whose `made` has an `input` (see
    `p2r.evaluation.transfer`) is shown only in Table 5. Raises `DataError` if a model has two
    results of one benchmark.
    """
    seven = list(paper_columns())
    measured: dict[str, dict[str, Cells]] = {number: {} for number in TITLES}
    quoted = quoted_tables()
    numbers: dict[tuple[str, str | None], dict[str, dict[str, Any]]] = {}
    for result in results:
        given = result.made.get("input")
        model = numbers.setdefault((result.model, given), {})
        if result.benchmark in model:
            raise DataError(f"two results of {result.model} on {result.benchmark}: give one")
        model[result.benchmark] = rescore(result)
        if given is None and (interval := mismatch_of(result.items)) is not None:
            row = measured["6"].setdefault(f"{result.model} (by rule)", {})
            row[f"mismatch, {result.benchmark}"] = interval
        if given is None and (rate := mismatch_by_reader(result.items)) is not None:
            reader = result.made.get("reader", "a reader")
            row = measured["6"].setdefault(f"{result.model} (read by {reader})", {})
            row[f"mismatch, {result.benchmark}"] = rate
    for row in measured["6"].values():
        if len(row) == len(seven):
            row["mismatch"] = _average(list(row.values()))
    for (model, given), found in numbers.items():
        for extractor in EXTRACTORS:
            cells = {name: found[name][extractor] for name in seven if name in found}
            if len(cells) == len(seven):
                cells["average"] = _average(list(cells.values()))
            cells |= {name: found[name][extractor] for name in found if name not in seven}
            if given is not None:
                measured["5"][f"{model}: {given} ({extractor})"] = cells
                continue
            measured["1"][f"{model} ({extractor})"] = cells
            if "average" in cells:
                measured["2"][f"{model} ({extractor})"] = {"average": cells["average"]}
            if split := _difficulty(quoted["7"], found, extractor):
                measured["7"][f"{model} ({extractor})"] = split
    return {
        "source": SOURCE,
        "tables": {
            number: {"title": title, "quoted": quoted[number], "measured": measured[number]}
            for number, title in TITLES.items()
        },
    }


def _average(intervals: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of the means, without an interval."""
    means = [interval["mean"] for interval in intervals]
    mean = None if None in means else sum(means) / len(means)
    return {"mean": mean, "low": None, "high": None, "n": sum(i["n"] for i in intervals)}


def _difficulty(quoted: dict[str, Row], found: dict[str, dict[str, Any]], extractor: str) -> Cells:
    """Return the parts of results that Table 7 has as columns."""
    cells = {}
    for column in next(iter(quoted.values())):
        benchmark, _, part = column.partition(": ")
        if part in (parts := found.get(benchmark, {}).get(extractor, {}).get("parts", {})):
            cells[column] = parts[part]
    return cells


def mismatch_of(items: Sequence[Item]) -> dict[str, Any] | None:
    """Return the rule-based think-answer mismatch of items, or None if none has thinking."""
    cases = [case for case in map(case_of, items) if case.trace.think]
    found = [mismatch(case) for case in cases]
    known = [None if one is None else float(one) for one in found]
    return mean_interval(known) if known else None


def report_markdown(found: dict[str, Any]) -> str:
    """Return the report in Markdown: one table each, with quoted and measured rows marked."""
    lines = [
        f"Quoted: {found['source']}, as printed. Measured: from the given result files, % with "
        "95 % bootstrap interval and n, by the official scoring rule and by a robust one.",
    ]
    for number, table in found["tables"].items():
        rows = [*table["quoted"].values(), *table["measured"].values()]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        lines += ["", f"**Table {number}: {table['title']}**", ""]
        lines.append("| row | source | " + " | ".join(columns) + " |")
        lines.append("|---|---|" + "--:|" * len(columns))
        for name, row in table["quoted"].items():
            cells = (str(row.get(column, "")) for column in columns)
            lines.append(f"| {name} | quoted | {' | '.join(cells)} |")
        for name, row in table["measured"].items():
            cells = (_measured(row.get(column)) for column in columns)
            lines.append(f"| {name.replace('|', '/')} | **measured** | {' | '.join(cells)} |")
        if not table["measured"]:
            lines.append(f"| – | *not measured* |{' |' * len(columns)}")
    return "\n".join(lines) + "\n"


def _measured(interval: dict[str, Any] | None) -> str:
    return "" if interval is None else f"{percent(interval)}, n {interval['n']}"
