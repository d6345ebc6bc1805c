"""What the command line prints as tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from p2r.files.safe_text import show_unseen
from p2r.runs.names import MODEL_LABELS
from p2r.scoring import format_interval
from p2r.scoring.analysis import BAD_RECORD, FUNNEL_STEPS, UNKNOWN

if TYPE_CHECKING:
    from p2r.cli.stack import Finding
    from p2r.judges.estimate import Estimate
    from p2r.stages.demo import Results
    from p2r.training.plan import Plan


class DemoReport:
    """Prints the progress of the demo."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def begin(self, title: str) -> None:
        self._console.rule(f"[bold]{title}", align="left")

    def end(self, stage_seconds: float, all_seconds: float) -> None:
        self._console.print(f"[dim]{_span(stage_seconds)}, {_span(all_seconds)} in all[/dim]")

    def funnel(self, table: dict[str, dict[str, int]]) -> None:
        self._console.print(funnel_table(table))

    def results(self, results: Results) -> None:
        self._console.print(results_table(results))


def make_console() -> Console:
    """The terminal; a file or pipe, which has no width, gets one that the tables fit into."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def results_table(results: Results) -> Table:
    """Means in percent with their 95 % intervals, a row per model."""
    numbers = {row["accuracy"]["n"] for row in results.values() if "accuracy" in row}
    table = _table("model", f"held-out questions (n = {_range(numbers)}), % [95 % interval]")
    columns = list(dict.fromkeys(metric for row in results.values() for metric in row))
    for metric in columns:
        table.add_column(metric, justify="right", no_wrap=True)
    for name, row in results.items():
        table.add_row(MODEL_LABELS.get(name, name), *(format_interval(row.get(m)) for m in columns))
    return table


def evaluation_table(result: dict[str, Any]) -> Table:
    """One model's metrics, a row per problem type and one over all."""
    title = f"{result['stage']}: {result['questions']} questions, % [95 % interval]"
    table = _table("problem type", title)
    for metric in result["metrics"]:
        table.add_column(metric, justify="right", no_wrap=True)
    for name, metrics in {**result["per_type"], "all": result["metrics"]}.items():
        table.add_row(name, *map(format_interval, metrics.values()))
    return table


def scores_table(numbers: dict[str, Any]) -> Table:
    """A result file's official and robust scores, a row per part and one over all."""
    title = f"{numbers['model']} on {numbers['benchmark']}: {numbers['n']} items, % [95 % interval]"
    table = _table("part", title)
    for extractor in ("official", "robust"):
        table.add_column("n", justify="right")
        table.add_column(extractor, justify="right", no_wrap=True)
    pair = [numbers[extractor] for extractor in ("official", "robust")]
    for part in dict.fromkeys([*pair[0]["parts"], *pair[1]["parts"]]):
        cells = [scores["parts"].get(part) for scores in pair]
        table.add_row(_text(part), *_score_cells(cells))
    table.add_row("all", *_score_cells(pair))
    return table


def _score_cells(intervals: Sequence[dict[str, Any] | None]) -> list[str]:
    return [
        cell
        for interval in intervals
        for cell in (str(interval["n"]) if interval else "–", format_interval(interval))
    ]


def funnel_table(counts: dict[str, dict[str, int]]) -> Table:
    """The filter's funnel: how many traces reached each step, a column per problem type."""
    table = _table("traces", "funnel of the filter")
    for name in counts:
        table.add_column(name, justify="right")
    for step in FUNNEL_STEPS:
        table.add_row(step, *(str(row[step]) for row in counts.values()))
    shares = (
        row["kept"] / row["generated"] if row["generated"] else None for row in counts.values()
    )
    table.add_row("kept %", *("–" if share is None else f"{100 * share:.0f}" for share in shares))
    others = [name for name in counts["all"] if name not in (*FUNNEL_STEPS, *UNKNOWN)]
    for name in others:
        label = name if name == BAD_RECORD else f"dropped: {name}"
        table.add_row(label, *(str(row[name]) for row in counts.values()))
    for unknown in UNKNOWN:
        if counts["all"][unknown]:
            table.add_row(unknown, *(str(row[unknown]) for row in counts.values()))
    return table


def estimate_table(found: Estimate) -> Table:
    """What judging a run will cost, and how sure that is."""
    table = _table("judging", f"estimate for judge {found.judge} (nothing was spent on it)")
    table.add_column("", justify="right")

    def dollars(amount: float | None) -> str:
        return "no known price" if amount is None else f"${amount:,.2f}"

    counted = "counted by the server" if found.counted else "reckoned from characters"
    measured = "mean of earlier calls" if found.measured else "a usual length"
    rows = {
        "observations to judge": str(found.observations),
        "of them in the cache already": str(found.known),
        f"input tokens of a call ({counted}, n = {found.sample})": f"{found.input_tokens:.0f}",
        f"output tokens of a call ({measured})": f"{found.output_tokens:.0f}",
        "online": dollars(found.online),
        **({} if found.batch is None else {"in batches (--batch)": dollars(found.batch)}),
        "online, at most": dollars(found.worst),
        "spent by this run so far": dollars(found.spent),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _table(first: str, title: str) -> Table:
    """A table narrow enough for a terminal of 80 columns."""
    return Table(first, title=_text(title), title_justify="left", box=SIMPLE, pad_edge=False)


def _text(text: str) -> str:
    """Text as it stands, which is no markup and cannot steer the terminal."""
    return escape(show_unseen(text))


def _range(numbers: set[int]) -> str:
    return "–".join(map(str, sorted({min(numbers), max(numbers)}))) if numbers else "0"


def stack_table(findings: list[Finding]) -> Table:
    """The report as a table."""
    colours = {"ok": "green", "note": "yellow", "fault": "red"}
    table = _table("what", "p2r doctor")
    for name in ("state", "found", "what to do"):
        table.add_column(name)
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}"
        table.add_row(finding.name, state, _text(finding.detail), _text(finding.advice))
    return table


def memory_table(plan: Plan) -> Table:
    """What each GPU holds, by part; of activations and rollouts one at a time."""
    table = _table("memory", "")
    table.add_column("GiB on each GPU (estimate)", justify="right")
    for part, size in plan.memory.items():
        table.add_row(part, f"{size / 2**30:.2f}")
    return table


def status_table(report: dict[str, Any]) -> Table:
    """How far each stage is."""
    table = _table("stage", f"run {report['run']}")
    for name in ("done", "failed", "left", "per s", "time to go", "last write"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, stage in report["stages"].items():
        table.add_row(
            name,
            f"{stage['done']} of {stage['wanted']}",
            str(stage.get("failed", "–")),
            str(stage["left"]),
            "–" if stage["per_s"] is None else f"{stage['per_s']:.2f}",
            _span(stage["eta_s"]),
            "–" if stage["last_write_s"] is None else f"{_span(stage['last_write_s'])} ago",
        )
    return table


def ledger_table(rows: list[dict[str, Any]]) -> Table:
    """The calls of a run to its judges, by how they ended."""
    table = _table("judge", "calls to judges, all stages")
    table.add_column("outcome")
    for name in ("calls", "tokens in", "tokens out", "US dollars", "at risk"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = (f"{row[key]:,}" for key in ("calls", "input_tokens", "output_tokens"))
        money = (f"{row[key]:.4f}" for key in ("cost", "at_risk"))
        table.add_row(_text(row["judge"]), _text(row["outcome"]), *counts, *money)
    return table


def grid_table(title: str, rows: list[list[str]]) -> Table:
    """Rows of text, the first of them the header."""
    table = _table(rows[0][0], title)
    for name in rows[0][1:]:
        table.add_column(_text(name), justify="right")
    for row in rows[1:]:
        table.add_row(*map(_text, row))
    return table


def counts_table(title: str, counts: dict[str, Any], first: str = "what") -> Table:
    """Names with their numbers."""
    table = _table(first, title)
    table.add_column("number", justify="right")
    for name, count in counts.items():
        table.add_row(_text(str(name)), str(count))
    return table


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d}" if hours else f"{minutes}:{rest:02d}"


def study_table(study: dict[str, Any]) -> Table:
    """A row per scheme and one for their difference, in percent, with the mean of every seed."""
    seeds = ", ".join(map(str, study["seeds"]))
    title = f"RL seeds {seeds}; {study['questions']} held-out questions; % [95 %] (each seed)"
    table = Table("model", title=title, title_justify="left")
    for metric in study["difference"]:
        table.add_column(metric, justify="right")
    rows = {
        **{name: MODEL_LABELS[name] for name in ("grpo", "pa_grpo")},
        "difference": "difference",
    }
    for name, label in rows.items():
        cells = []
        for metric in study["difference"]:
            each = " ".join(f"{100 * mean:.1f}" for mean in study[name][metric]["per_seed"])
            cells.append(f"{format_interval(study[name][metric])}\n({each})")
        table.add_row(label, *cells)
    return table
