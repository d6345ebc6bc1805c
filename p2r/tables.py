"""What the command line prints as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from p2r.analysis import FUNNEL_STEPS, UNKNOWN

if TYPE_CHECKING:
    from p2r.stack import Finding

Results = dict[str, dict[str, dict[str, Any]]]
# Row of results.json -> its name in the table.
ROWS = {
    "base": "base",
    "base_direct": "base (direct answer)",
    "sft": "SFT",
    "grpo": "SFT + GRPO",
    "pa_grpo": "SFT + PA-GRPO",
}


def results_table(results: Results) -> Table:
    """Means in percent with their 95 % intervals, a row per model."""
    table = Table(title="held-out scenes, % with 95 % intervals", title_justify="left")
    table.add_column("model")
    columns = list(dict.fromkeys(metric for row in results.values() for metric in row))
    for metric in columns:
        table.add_column(metric, justify="right")
    for name, row in results.items():
        table.add_row(ROWS.get(name, name), *(format_interval(row.get(m)) for m in columns))
    return table


def evaluation_table(result: dict[str, Any]) -> Table:
    """One model's metrics, a row per problem type and one over all."""
    title = f"{result['stage']}: {result['questions']} questions, % with 95 % intervals"
    table = Table(title=title, title_justify="left")
    table.add_column("problem type")
    for metric in result["metrics"]:
        table.add_column(metric, justify="right")
    for name, metrics in {**result["per_type"], "all": result["metrics"]}.items():
        table.add_row(name, *map(format_interval, metrics.values()))
    return table


def format_interval(interval: dict[str, float] | None) -> str:
    """ "63.0 [57.7, 68.3]" in percent; a dash where there is no value."""
    if not interval or not interval["n"]:
        return "–"
    mean, low, high = (100 * interval[key] for key in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def funnel_table(counts: dict[str, dict[str, int]]) -> Table:
    """The filter's funnel per problem type."""
    table = Table("problem type", title="funnel of the filter", title_justify="left")
    columns = (*FUNNEL_STEPS, *UNKNOWN)
    for name in (*columns, "kept %"):
        table.add_column(name, justify="right")
    for name, row in counts.items():
        share = f"{100 * row['kept'] / row['generated']:.0f}" if row["generated"] else "–"
        table.add_row(name, *(str(row[column]) for column in columns), share)
    return table


def stack_table(findings: list[Finding]) -> Table:
    """The report as a table."""
    colours = {"ok": "green", "note": "yellow", "fault": "red"}
    table = Table("what", "state", "found", "what to do", title="p2r doctor", title_justify="left")
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}"
        table.add_row(finding.name, state, escape(finding.detail), escape(finding.advice))
    return table
