"""Puts result files beside the paper's tables. Every row is marked as quoted or measured.

Quoted rows are the paper's, in percent, without n. Measured rows come from result files: an
interval with n, by both extractors, in the metric that the paper uses for the benchmark. An average
is shown only over all seven benchmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from p2r.errors import DataError
from p2r.evaluation.benchmark import EXTRACTORS, Item
from p2r.evaluation.compare import compare, counted, percent
from p2r.evaluation.metrics import Clips
from p2r.evaluation.paper import MODEL_TABLES, SOURCE, TITLES, Row, paper_columns, quoted_tables
from p2r.evaluation.readers import mismatch_by_reader
from p2r.evaluation.results import Result, case_of, rescore
from p2r.files.safe_text import escape_markdown
from p2r.scoring.thoughts import mismatch

Cells = dict[str, dict[str, Any]]


def build_report(results: Sequence[Result], tables: Sequence[str] = ()) -> dict[str, Any]:
    """Return Tables 1, 2 and 4 to 9 by number.

    A table is {"title", "quoted": {row: {column: %}}, "measured": {row: {column: interval}}}.
    "pairs" compares every two results of one benchmark item by item. "warnings" lists the warnings
    of the results.
    Tables 1, 2, 4, 8 and 9 compare models by benchmark: in them, one row has all results of a
    model. A result whose `made` has an `input` (see `p2r.evaluation.transfer`) is shown only in
    Table 5. `tables` selects some tables by number.
    Raises `DataError` if a model has two results of one benchmark.
    """
    seven = list(paper_columns())
    measured: dict[str, dict[str, Cells]] = {number: {} for number in TITLES}
    quoted = quoted_tables()
    numbers: dict[tuple[str, str | None], dict[str, dict[str, Any]]] = {}
    for result in results:
        given = input_of(result)
        own = numbers.setdefault((result.model, given), {})
        if result.benchmark in own:
            raise DataError(f"two results of {result.model} on {result.benchmark}: give one")
        own[result.benchmark] = rescore(result)
        if given is None and (interval := mismatch_of(result.items)) is not None:
            row = measured["6"].setdefault(f"{result.model} (by rule)", {})
            row[f"mismatch, {result.benchmark}"] = interval
        if given is None and (rate := mismatch_by_reader(result.items)) is not None:
            reader = result.made.get("reader", "a reader")
            row = measured["6"].setdefault(f"{result.model} (read by {reader})", {})
            row[f"mismatch, {result.benchmark}"] = rate
    for row in measured["6"].values():
        rates = [row[column] for name in seven if (column := f"mismatch, {name}") in row]
        if len(rates) == len(seven):
            row["mismatch"] = _average(rates)
    for (model, given), found in numbers.items():
        for extractor in EXTRACTORS:
            cells = {
                name: paper_metric(name, found[name][extractor]) for name in seven if name in found
            }
            if len(cells) == len(seven):
                cells["average"] = _average(list(cells.values()))
            cells |= {name: found[name][extractor] for name in found if name not in seven}
            if given is not None:
                measured["5"][f"{model}: {given} ({extractor})"] = cells
                continue
            for number in MODEL_TABLES:
                measured[number][f"{model} ({extractor})"] = cells
            if split := _difficulty(quoted["7"], found, extractor):
                measured["7"][f"{model} ({extractor})"] = split
    return {
        "source": SOURCE,
        "tables": {
            number: {"title": title, "quoted": quoted[number], "measured": measured[number]}
            for number, title in TITLES.items()
            if not tables or number in tables
        },
        "pairs": _compare_all([r for r in results if r.made.get("input") is None]),
        "warnings": [
            f"{result.model} on {result.benchmark}: {warning['what']}"
            for result in results
            for warning in result.numbers["warnings"]
        ],
    }


def paper_metric(benchmark: str, numbers: dict[str, Any]) -> dict[str, Any]:
    """Return a benchmark's interval in the metric of the paper (`PaperColumn.part`)."""
    return numbers["parts"].get(paper_columns()[benchmark].part, numbers)


def input_of(result: Result) -> str | None:
    """Return what a reader model was given, for example "text + VideoP2R's observation".

    None for a result that is not of perception transfer.
    """
    given, by = result.made.get("input"), result.made.get("observations_by")
    return given.replace("observation", f"{by}'s observation") if given and by else given


def _compare_all(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Compare every two results of one benchmark. A pair without a common item has a "reason"."""
    found = []
    for a, b in combinations(results, 2):
        if a.benchmark != b.benchmark:
            continue
        pair: dict[str, Any] = {"benchmark": a.benchmark, "models": [a.model, b.model]}
        try:
            compared = compare(a, b)
            pair |= {name: compared[name] for name in (*EXTRACTORS, "intervals")}
        except DataError as error:
            pair["reason"] = str(error)
        found.append(pair)
    return found


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
    pairs = [(item, case) for item in items if (case := case_of(item)).trace.think]
    found = [mismatch(case) for _, case in pairs]
    known = [None if one is None else float(one) for one in found]
    return Clips.of(item for item, _ in pairs).interval(known) if known else None


def report_markdown(found: dict[str, Any]) -> str:
    """Return the report in Markdown: one table each, with quoted and measured rows marked."""
    lines = [
        f"Quoted: {found['source']}, as printed. Measured: from the given result files, % with "
        "95 % bootstrap interval and n, by the official scoring rule and by a robust one. Each "
        "benchmark has the paper's metric.",
    ]
    for number, table in found["tables"].items():
        rows = [*table["quoted"].values(), *table["measured"].values()]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        columns.sort(key=_place)
        lines += ["", f"**Table {number}: {table['title']}**", ""]
        lines.append("| row | source | " + " | ".join(map(escape_markdown, columns)) + " |")
        lines.append("|---|---|" + "--:|" * len(columns))
        for name, row in table["quoted"].items():
            cells = (str(row.get(column, "")) for column in columns)
            lines.append(f"| {name} | quoted | {' | '.join(cells)} |")
        for name, row in table["measured"].items():
            cells = (_measured(row.get(column)) for column in columns)
            lines.append(f"| {escape_markdown(name)} | **measured** | {' | '.join(cells)} |")
        if not table["measured"]:
            lines.append(f"| – | *not measured* |{' |' * len(columns)}")
    lines += _pairs_markdown(found["pairs"])
    lines += ["", *(f"WARNING: {escape_markdown(warning)}" for warning in found["warnings"])]
    return "\n".join(lines).rstrip() + "\n"


def _pairs_markdown(pairs: Sequence[dict[str, Any]]) -> list[str]:
    if not pairs:
        return []
    lines = [
        "",
        "**Pairs of results: B − A of the benchmark's score in % with 95 % interval; over items: "
        "only A, only B, and p of McNemar's exact test**",
        "",
    ]
    lines.append("| benchmark | A | B | rule | n | B − A | only A | only B | p |")
    lines.append("|---|---|---|---|--:|--:|--:|--:|--:|")
    for pair in pairs:
        head = " | ".join(map(escape_markdown, (pair["benchmark"], *pair["models"])))
        if "reason" in pair:
            lines.append(f"| {head} | *{escape_markdown(pair['reason'])}* | | | | | |")
            continue
        for name in EXTRACTORS:
            row = pair[name]
            cells = [counted(row["difference"]), percent(row["difference"])]
            cells += [str(row["table"][side]) for side in ("only a", "only b")]
            lines.append(f"| {head} | {name} | {' | '.join(cells)} | {row['p']:.3g} |")
    return lines


def _place(column: str) -> int:
    """Return the place of a column: benchmarks in the paper's order, then the average, the rest."""
    order = [*paper_columns(), "average"]
    return order.index(column) if column in order else len(order)


def _measured(interval: dict[str, Any] | None) -> str:
    return "" if interval is None else f"{percent(interval)}, n {counted(interval)}"
