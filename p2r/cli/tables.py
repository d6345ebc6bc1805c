"""The tables that the command line prints."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from p2r.files.safe_text import show_unseen
from p2r.pipeline.funnel import BAD_RECORD, FUNNEL_STEPS, UNKNOWN
from p2r.runs.names import model_label
from p2r.scoring import format_interval

if TYPE_CHECKING:
    from p2r.cli.stack import Finding
    from p2r.judges.estimate import Estimate
    from p2r.stages.demo import Results
    from p2r.training.budget import Budget
    from p2r.training.plan import Plan

MOST_COLUMNS = 4  # metrics in one table: it fits 80 columns
SPLIT_METRICS = ("exact", "sufficient and true")  # of the tables of other splits


class DemoReport:
    """Prints the progress of the demo."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def begin(self, title: str) -> None:
        self._console.rule(f"[bold]{title}", align="left")

    def end(self, stage_seconds: float, all_seconds: float) -> None:
        self._console.print(
            f"[dim]{_duration(stage_seconds)}, {_duration(all_seconds)} in total[/dim]"
        )

    def funnel(self, table: dict[str, dict[str, int]]) -> None:
        self._console.print(funnel_table(table))

    def results(self, results: Results) -> None:
        for columns in _parts(_metrics_of(results), MOST_COLUMNS):
            self._console.print(results_table(results, columns))

    def splits(self, results: Mapping[str, Results]) -> None:
        for metric in SPLIT_METRICS:
            self._console.print(splits_table(results, metric))


def make_console() -> Console:
    """Return the console. A file or a pipe has no width; it gets 120 columns."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def grid_table(title: str, rows: Sequence[Sequence[str]], left: int = 1) -> Table:
    """Return a table from rows of text in a narrow style that fits 80 columns.

    The first row is the header. The first `left` columns are aligned left, the others right. Cells
    that are too wide go on in the next line; nothing is cut off.
    """
    table = Table(title=_safe(title), title_justify="left", box=SIMPLE, pad_edge=False)
    for number, name in enumerate(rows[0]):
        right = number >= left
        table.add_column(_safe(name), justify="right" if right else "left", overflow="fold")
    for row in rows[1:]:
        table.add_row(*map(_safe, row))
    return table


def counts_table(title: str, counts: dict[str, Any], first: str = "name") -> Table:
    """Return a table of names and their numbers."""
    rows = [[str(name), str(count)] for name, count in counts.items()]
    return grid_table(title, [[first, "number"], *rows])


def facts_table(facts: dict[str, dict[str, str]]) -> Table:
    """Return a table with one line for each fact about a thing, grouped by the thing's name."""
    rows = [
        ["" if place else name, fact, text]
        for name, texts in facts.items()
        for place, (fact, text) in enumerate(texts.items())
    ]
    return grid_table("", [["name", "fact", "value"], *rows], left=3)


def results_table(results: Results, columns: Sequence[str] = ()) -> Table:
    """Return means in percent with their 95 % intervals, one row per model.

    `columns`: the metrics (default: all).
    """
    numbers = {row["accuracy"]["n"] for row in results.values() if "accuracy" in row}
    columns = columns or _metrics_of(results)
    rows = [
        [model_label(name), *(format_interval(row.get(metric)) for metric in columns)]
        for name, row in results.items()
        if any(metric in row for metric in columns)
    ]
    title = f"held-out questions (n = {_range(numbers)}), % [95 % interval]"
    header = [fill(metric, 12) for metric in columns]  # as wide as the cells
    return grid_table(title, [["model", *header], *rows])


def splits_table(splits: Mapping[str, Results], metric: str) -> Table:
    """Return one metric of every model, one column per split of the playground."""
    models = dict.fromkeys(name for results in splits.values() for name in results)
    rows = [
        [
            model_label(name),
            *(format_interval(results.get(name, {}).get(metric)) for results in splits.values()),
        ]
        for name in models
    ]
    header = [
        f"{split.replace('_', ' ')}\n(n = {_count_of(found)})" for split, found in splits.items()
    ]
    return grid_table(f"{metric} on other splits, % [95 % interval]", [["model", *header], *rows])


def _count_of(results: Results) -> str:
    return _range({row["accuracy"]["n"] for row in results.values()})


def _metrics_of(results: Results) -> list[str]:
    return list(dict.fromkeys(metric for row in results.values() for metric in row))


def evaluation_tables(result: dict[str, Any]) -> list[Table]:
    """Return the metrics of one model: one row per problem type, and one row for all questions.

    There are as many tables as the metrics need, so that each fits 80 columns.
    """
    parts = {**result["per_type"], "all": result["metrics"]}
    title = f"{result['stage']}: {result['questions']} questions, % [95 % interval]"
    tables = []
    for columns in _parts(list(result["metrics"]), MOST_COLUMNS):
        header = ["problem type", *(fill(metric, 12) for metric in columns)]
        rows = [
            [name, *(format_interval(metrics.get(metric)) for metric in columns)]
            for name, metrics in parts.items()
        ]
        tables.append(grid_table(title, [header, *rows]))
    return tables


def scores_table(numbers: dict[str, Any]) -> Table:
    """Return official and robust scores of a result file: one row per part, and one for all."""
    pair = [numbers[extractor] for extractor in ("official", "robust")]
    names = dict.fromkeys([*pair[0]["parts"], *pair[1]["parts"]])
    parts = {name: [scores["parts"].get(name) for scores in pair] for name in names}
    rows = [
        [name, *(cell for interval in intervals for cell in _score_cells(interval))]
        for name, intervals in {**parts, "all": pair}.items()
    ]
    how = numbers.get("intervals", "95 % interval")
    title = f"{numbers['model']} on {numbers['benchmark']}: {numbers['n']} items, % [{how}]"
    return grid_table(title, [["part", "n", "official", "n", "robust"], *rows])


def _score_cells(interval: dict[str, Any] | None) -> tuple[str, str]:
    return str(interval["n"]) if interval else "–", format_interval(interval)


def funnel_table(counts: dict[str, dict[str, int]]) -> Table:
    """Return the number of traces that reached each step, with one column per problem type."""
    others = [name for name in counts["all"] if name not in (*FUNNEL_STEPS, *UNKNOWN)]
    labels = {
        **{step: step for step in FUNNEL_STEPS},
        **{name: name if name == BAD_RECORD else f"dropped: {name}" for name in others},
        **{unknown: unknown for unknown in UNKNOWN if counts["all"][unknown]},
    }
    rows = [[label, *(str(row[key]) for row in counts.values())] for key, label in labels.items()]
    shares = (
        f"{100 * row['kept'] / row['generated']:.0f}" if row["generated"] else "–"
        for row in counts.values()
    )
    rows.insert(len(FUNNEL_STEPS), ["kept %", *shares])
    return grid_table("traces that passed each step", [["traces", *counts], *rows])


def estimate_table(found: Estimate) -> Table:
    """Return the estimated cost of judging a run."""

    def dollars(amount: float | None) -> str:
        return "no known price" if amount is None else f"${amount:,.2f}"

    counted = "counted by the server" if found.counted else "estimated from characters"
    measured = "mean of earlier calls" if found.measured else "typical length"
    rows = [
        ["judging", ""],
        ["observations to judge", str(found.observations)],
        ["already in the cache", str(found.known)],
        [f"input tokens per call ({counted}, n = {found.sample})", f"{found.input_tokens:.0f}"],
        [f"output tokens per call ({measured})", f"{found.output_tokens:.0f}"],
        ["online", dollars(found.online)],
        *([] if found.batch is None else [["in batches (--batch)", dollars(found.batch)]]),
        ["online, maximum", dollars(found.worst)],
        ["already spent by this run", dollars(found.spent)],
    ]
    return grid_table(f"estimated cost of judge {found.judge} (the estimate is free)", rows)


def stack_table(findings: list[Finding]) -> Table:
    """Return the report of `p2r doctor`."""
    header = ["part", "state", "found", "advice"]
    table = grid_table("p2r doctor", [header], left=len(header))
    colours = {"ok": "green", "note": "yellow", "fault": "red"}
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}"
        table.add_row(finding.name, state, _safe(finding.detail), _safe(finding.advice))
    return table


def memory_table(plan: Plan) -> Table:
    """Return the estimated memory of each GPU by part.

    Activations and rollouts are not in memory at the same time.
    """
    rows = [[part, f"{size / 2**30:.2f}"] for part, size in plan.memory.items()]
    return grid_table("", [["memory", "GiB on each GPU (estimate)"], *rows])


def budget_table(budget: Budget) -> Table:
    """Return memory, time and judge cost of every stage of a recipe."""
    from p2r.training.budget import ERROR, describe_time

    rows = [["stage", "work", "GPUs", "GiB on each", "fits", "time", "judge calls", "US dollars"]]
    for stage in budget.stages:
        fits = "yes" if budget.card in stage.cards else "no"
        calls = f"≤ {stage.calls:,}" if stage.calls else "–"
        dollars = "not known" if stage.dollars is None else f"≤ {stage.dollars:,.0f}"
        rows.append(
            [
                stage.stage,
                stage.what,
                str(stage.gpus or "–"),
                f"{stage.peak / 2**30:.1f}" if stage.gpus else "–",
                fits if stage.gpus else "–",
                describe_time(stage.seconds),
                calls,
                dollars if stage.calls else "–",
            ]
        )
    title = (
        f"all stages on {budget.gpus} GPU(s) of {budget.card} GB; estimates, ±{ERROR:.0%} (time)"
    )
    return grid_table(title, rows)


def status_table(report: dict[str, Any]) -> Table:
    """Return the progress of each stage."""
    rows = [["stage", "done", "failed", "left", "per s", "time left", "last write"]]
    for name, stage in report["stages"].items():
        rate, last = stage["per_s"], stage["last_write_s"]
        rows.append(
            [
                name,
                f"{stage['done']} of {stage['wanted']}",
                str(stage.get("failed", "–")),
                str(stage["left"]),
                "–" if rate is None else f"{rate:.2f}",
                _duration(stage["eta_s"]),
                "–" if last is None else f"{_duration(last)} ago",
            ]
        )
    return grid_table(f"run {report['run']}", rows)


def ledger_table(calls: list[dict[str, Any]]) -> Table:
    """Return the judge calls of a run, one row per judge and outcome."""
    rows = [["judge", "outcome", "calls", "tokens in", "tokens out", "US dollars", "at risk"]]
    for row in calls:
        counts = (f"{row[key]:,}" for key in ("calls", "input_tokens", "output_tokens"))
        money = (f"{row[key]:.4f}" for key in ("cost", "at_risk"))
        rows.append([row["judge"], row["outcome"], *counts, *money])
    return grid_table("judge calls of all stages", rows, left=2)


def study_tables(result: dict[str, Any]) -> list[Table]:
    """Return the tables of a study's result: one per view, per part, and per pair of views."""
    from p2r.studies.framework import tables

    seeds = ", ".join(map(str, result["seeds"]))
    found = [
        grid_table(f"{name}: seeds {seeds}; % [95 %] (each seed)", rows)
        for name in result["views"]
        if (rows := tables.view_rows(result, name, seeds=True, between="\n"))
    ]
    for name, view in result["views"].items():
        for axis in view["by"]:
            found.append(grid_table(name, tables.part_rows(result, name, axis), left=3))
    for pair in result["view_differences"]:
        found.append(grid_table("", tables.view_difference_rows(result, pair)))
    found += [grid_table("", rows) for rows in tables.usage_tables(result)]
    if result["curves"]:
        found.append(grid_table("rollouts, by arm", tables.curve_rows(result)))
    return found


def _safe(text: str) -> str:
    """Make untrusted text safe to show: no markup, no control characters."""
    return escape(show_unseen(text))


def _parts(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _range(numbers: set[int]) -> str:
    return "–".join(map(str, sorted({min(numbers), max(numbers)}))) if numbers else "0"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d}" if hours else f"{minutes}:{rest:02d}"
