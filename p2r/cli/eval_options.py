"""Shared by the subcommands of `p2r eval`: the group, its options, and what they print.

The old spelling, with options in place of subcommands (`p2r eval --rescore FILE`), still works: see
`translate`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from p2r.cli.options import app
from p2r.errors import UserError
from p2r.evaluation.benchmarks import all_benchmarks, benchmark_names, load_benchmark
from p2r.files.safe_text import show_unseen

# The options of the old spelling that name a subcommand, and the number of their values.
OLD = {"check": 0, "import": 2, "rescore": 1, "compare": 2, "report": 1, "transfer": 1}


def translate(arguments: list[str]) -> list[str]:
    """Return arguments in the old spelling as a subcommand with its arguments.

    `--compare A B` becomes `compare A B`. Without such an option, the subcommand is `run`.
    """
    verbs: list[str] = []
    values: list[str] = []
    rest: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        option, _, value = argument.partition("=")
        verb = option.removeprefix("--")
        if verb not in OLD or not option.startswith("--"):
            rest.append(argument)
            continue
        verbs.append(verb)
        values += [value] if value else [next(waiting, "") for _ in range(OLD[verb])]
    names = list(dict.fromkeys(verbs))
    if len(names) > 1:
        raise UserError(f"{' and '.join(f'--{n}' for n in names)} cannot go together: give one")
    name = names[0] if names else "run"
    if "--reader" in rest and name not in ("import", "rescore"):
        raise UserError("--reader goes with import or rescore: leave it out")
    return [name, *rest, *filter(None, values)]


class _EvalGroup(TyperGroup):
    """The subcommands of `p2r eval`. It also accepts the old spelling."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] != "--help":
            args = translate(args)
        if not args:
            raise UserError(f"give one of {', '.join(self.commands)}: see p2r eval --help")
        return super().parse_args(ctx, args)


eval_app = typer.Typer(
    cls=_EvalGroup,
    name="eval",
    help="Step 5: measure a model on held-out questions or a benchmark, or score stored outputs.",
    epilog="Example: p2r eval run --run runs/x --model pa_grpo\n\n"
    "p2r eval COMMAND --help shows the options and an example of a command.",
)
app.add_typer(eval_app)

BenchmarkOption = Annotated[
    str,
    typer.Option(
        "--benchmark",
        help=f"{', '.join(benchmark_names())}, own:NAME for another set of questions, "
        "or a Python file that defines a benchmark. "
        "Pass its official files with --questions.",
    ),
]
AllOption = Annotated[
    bool,
    typer.Option(
        "--all", help="Use all questions of the benchmark, not only the paper's (vcrbench)."
    ),
]


def load_named(benchmark: str | None) -> str | None:
    """Return the name of a benchmark. A Python file is loaded first."""
    return benchmark and load_benchmark(benchmark).name


def choose_benchmark(benchmark: str, all_questions: bool) -> str:
    """Return the name of a benchmark, or of its variant with all questions."""
    entry = load_benchmark(benchmark)
    if not all_questions:
        return entry.name
    if f"{entry.name}all" not in all_benchmarks():
        raise UserError(f"{entry.title} has no variant with more questions: leave out --all")
    return f"{entry.name}all"


def print_numbers(numbers: dict[str, Any], as_json: bool = False) -> None:
    """Print the table, the counts and the warnings. With JSON, warnings also go to stderr."""
    from p2r.evaluation.alarms import alarm_lines

    alarms = [*map(show_unseen, alarm_lines(numbers.get("warnings", ())))]
    if as_json:
        print(json.dumps(numbers, indent=1))
        print(*alarms, sep="\n", end="\n" if alarms else "", file=sys.stderr)
        return
    from p2r.cli.tables import make_console, scores_table

    make_console().print(scores_table(numbers))
    for what, count in numbers["counts"].items():
        print(show_unseen(f"{what}: {count}"))
    print(*alarms, sep="\n", end="\n" if alarms else "")


def print_report(files: list[Path], as_json: bool = False, tables: Sequence[str] = ()) -> None:
    """Print result files together with the paper's tables."""
    from p2r.evaluation.paper import TITLES
    from p2r.evaluation.report import build_report, report_markdown
    from p2r.evaluation.results import read_result

    if unknown := sorted(set(tables) - TITLES.keys()):
        raise UserError(f"no table {', '.join(unknown)}: use one of {', '.join(TITLES)}")
    found = build_report([read_result(file) for file in files], tables)
    print(json.dumps(found, indent=1) if as_json else show_unseen(report_markdown(found).rstrip()))
