"""A run laid beside the paper's tables: what is measured here, and what is quoted, is marked.

Rows of the paper are quoted, in percent, without n. Rows of result files are measured: an interval
with n each, by both extractors. An average is given only over all seven benchmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from p2r.errors import DataError
from p2r.evaluation.compare import percent
from p2r.evaluation.items import EXTRACTORS, Item
from p2r.evaluation.paper import BENCHMARK_COLUMNS, SOURCE, TABLES
from p2r.evaluation.readers import mismatch_by_reader
from p2r.evaluation.results import Result, case_of, rescore
from p2r.scoring import mean_interval
from p2r.scoring.analysis import mismatch

SEVEN = BENCHMARK_COLUMNS[:-1]
Cells = dict[str, dict[str, Any]]


def build_report(results: Sequence[Result]) -> dict[str, Any]:
    """The tables 1, 2, 4, 5, 6 and 7: {"title", "quoted": {row: {column: %}}, "measured": {row:
    {column: interval}}}.

    Several results of one model are one row. A result whose `made` says another `input` than video
    (see `p2r.evaluation.transfer`) belongs to Table 5 alone. Raises `DataError` where a model has
    two results of one benchmark.
    """
    measured: dict[str, dict[str, Cells]] = {number: {} for number in TABLES}
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
        if len(row) == len(SEVEN):
            row["mismatch"] = _average(list(row.values()))
    for (model, given), found in numbers.items():
        for extractor in EXTRACTORS:
            cells = {name: found[name][extractor] for name in SEVEN if name in found}
            if len(cells) == len(SEVEN):
                cells["average"] = _average(list(cells.values()))
            if given is not None:
                measured["5"][f"{model}: {given} ({extractor})"] = cells
                continue
            measured["1"][f"{model} ({extractor})"] = cells
            if "average" in cells:
                measured["2"][f"{model} ({extractor})"] = {"average": cells["average"]}
            if split := _difficulty(found, extractor):
                measured["7"][f"{model} ({extractor})"] = split
    return {
        "source": SOURCE,
        "tables": {
            number: {"title": title, "quoted": rows, "measured": measured[number]}
            for number, (title, rows) in TABLES.items()
        },
    }


def _average(intervals: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of the means; no interval is given for it."""
    means = [interval["mean"] for interval in intervals]
    mean = None if None in means else sum(means) / len(means)
    return {"mean": mean, "low": None, "high": None, "n": sum(i["n"] for i in intervals)}


def _difficulty(found: dict[str, dict[str, Any]], extractor: str) -> Cells:
    columns = next(iter(TABLES["7"][1].values()))
    cells = {}
    for column in columns:
        benchmark, _, part = column.partition(": ")
        if part in (parts := found.get(benchmark, {}).get(extractor, {}).get("parts", {})):
            cells[column] = parts[part]
    return cells


def mismatch_of(items: Sequence[Item]) -> dict[str, Any] | None:
    """The rule-based think-answer mismatch of a result's items; None where none has thinking."""
    cases = [case for case in map(case_of, items) if case.trace.think]
    found = [mismatch(case) for case in cases]
    known = [None if one is None else float(one) for one in found]
    return mean_interval(known) if known else None


def report_markdown(found: dict[str, Any]) -> str:
    """The report in Markdown: one table each, quoted rows and measured rows marked."""
    lines = [
        f"Quoted: {found['source']}, as printed. Measured: from the given result files, % with "
        "95 % bootstrap interval and n; official scoring rule and a robust one.",
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
