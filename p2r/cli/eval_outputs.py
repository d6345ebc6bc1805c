"""`p2r eval list`, `check`, `import`, `rescore`, `compare` and `report`: work without a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2r.cli.eval_options import (
    AllOption,
    BenchmarkOption,
    choose_benchmark,
    eval_app,
    load_named,
    print_numbers,
    print_report,
)
from p2r.cli.options import JsonOption, SetOption
from p2r.errors import UserError
from p2r.evaluation.benchmarks import all_benchmarks, load_benchmark
from p2r.files.safe_text import show_unseen

if TYPE_CHECKING:
    from p2r.evaluation.results import Result

OwnOption = Annotated[
    str | None,
    typer.Option(
        "--benchmark",
        metavar="FILE.py",
        help="Python file of your own benchmark, if a result file is about it.",
    ),
]
ResultArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Result file.")]
ReaderOption = Annotated[
    str | None,
    typer.Option(
        metavar="JUDGE",
        help="Let an LLM (claude, server:URL#MODEL or messages:URL#MODEL) read which option the "
        "thinking ends on, and rate answers that no rule can score. The result file stores it.",
    ),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(min=0.0, help="US dollars that the reader may cost, over all calls."),
]


@eval_app.command("list", epilog="Example: p2r eval list · p2r eval list mmvu")
def list_benchmarks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Benchmarks to show. Default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the benchmarks: questions, score, files, where to get them, and their licence.

    Under "download", hub is the Hugging Face hub.
    """
    chosen = [load_benchmark(name) for name in names or all_benchmarks()]
    facts = {benchmark.name: benchmark.facts for benchmark in chosen}
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    from p2r.cli.tables import facts_table, make_console

    make_console().print(facts_table(facts))


@eval_app.command(
    epilog="Example: p2r eval check --benchmark mmvu --questions validation.json --data-root media"
)
def check(
    benchmark: BenchmarkOption,
    questions: Annotated[Path, typer.Option(help="The benchmark's files: a file or a folder.")],
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of the media. Without it media are not checked.")
    ] = None,
    all_questions: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check a benchmark's files: number of questions, missing media, odd records.

    Ends with code 1 if questions or media are missing.
    """
    from p2r.evaluation.questions import read_benchmark

    _, manifest = read_benchmark(choose_benchmark(benchmark, all_questions), questions, data_root)
    if as_json:
        print(json.dumps({**vars(manifest), "complete": manifest.complete}, indent=1))
    else:
        print(*map(show_unseen, manifest.lines()), sep="\n")
    # The number of questions of your own benchmark is not known.
    is_known = manifest.expected is not None
    if not manifest.complete if is_known else manifest.counts.get("media missing"):
        raise typer.Exit(1)


@eval_app.command(
    "import",
    epilog="Example: p2r eval import jsonl outputs.jsonl --benchmark mmvu --out mmvu.json",
)
def import_(
    format: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="jsonl (JSON, CSV, TSV, XLSX or Parquet records), video-r1, lmms-eval, or a "
            "benchmark's own format.",
        ),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File or folder of outputs.")],
    benchmark: BenchmarkOption,
    out: Annotated[Path, typer.Option(help="Result file to write.")],
    questions: Annotated[
        Path | None,
        typer.Option(help="The benchmark's files. Truth and options are then taken from there."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model. Default: the file's name.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Use only the records with this value, if the file has several conditions.",
        ),
    ] = None,
    count_from: Annotated[
        int | None,
        typer.Option(
            min=0, max=1, help="Index of the first option, if the outputs are indices of options."
        ),
    ] = None,
    all_questions: AllOption = False,
    reader: ReaderOption = None,
    budget: BudgetOption = None,
    set: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score outputs that another program stored, and write a result file."""
    from p2r.evaluation.results import import_result, write_result

    _check_reader(reader, budget)
    chosen = choose_benchmark(benchmark, all_questions)
    conditions = dict(map(_split_condition, where or ())) or None
    result = import_result(format, file, chosen, questions, name, conditions, count_from)
    write_result(result, out)
    said = _read(result, out, reader, budget, set)
    print_numbers(result.numbers | said, as_json)
    for reason, count in result.counts.items():
        examples = "; ".join(result.examples.get(reason, ()))
        line = f"{count} × {reason}" + (f": {examples}" if examples else "")
        print(show_unseen(line), file=sys.stderr)


@eval_app.command(epilog="Example: p2r eval rescore mmvu.json --json")
def rescore(
    file: ResultArgument,
    out: Annotated[Path | None, typer.Option(help="Result file to write.")] = None,
    reader: ReaderOption = None,
    budget: BudgetOption = None,
    set: SetOption = None,
    benchmark: OwnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute the scores of a result file from its stored outputs. Needs no model and no GPU."""
    from p2r.evaluation import results

    _check_reader(reader, budget)
    load_named(benchmark)
    result = results.read_result(file)
    said = _read(result, out or file, reader, budget, set)
    if out is not None and not reader:
        results.write_result(result, out)
    print_numbers(results.rescore(result) | said, as_json)


@eval_app.command(epilog="Example: p2r eval compare a.json b.json")
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Result file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Result file of the same benchmark.")],
    benchmark: OwnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two result files item by item: differences, intervals and McNemar's test."""
    from p2r.evaluation.compare import compare, comparison_markdown
    from p2r.evaluation.results import read_result

    load_named(benchmark)
    found = compare(read_result(a), read_result(b))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print(show_unseen(comparison_markdown(found).rstrip()))


@eval_app.command(epilog="Example: p2r eval report runs/x/results/*.json")
def report(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Result files.")],
    table: Annotated[
        list[str] | None,
        typer.Option(help="Number of a table to show: 1, 2, 4 to 9. Repeatable. Default: all."),
    ] = None,
    benchmark: OwnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show result files together with the paper's tables.

    Each row says whether it is measured or quoted.
    """
    load_named(benchmark)
    print_report(files, as_json, table or ())


def _split_condition(text: str) -> tuple[str, str]:
    column, equal, value = text.partition("=")
    if not equal or not column:
        raise UserError(f"--where {text}: give COLUMN=VALUE, for example condition=black")
    return column, value


def _check_reader(reader: str | None, budget: float | None) -> None:
    if budget is not None and not reader:
        raise UserError("--budget limits a reader: give --budget with --reader")


def _read(
    result: Result, out: Path, reader: str | None, budget: float | None, set: list[str] | None
) -> dict[str, Any]:
    """Let a reader read a result, if one was given. Return its findings for the JSON output."""
    if not reader:
        return {}
    from p2r.evaluation.compare import percent
    from p2r.evaluation.readers import read_file_with

    asked, found = read_file_with(reader, result, out, budget, set or ())
    print(f"{asked.name} replied to {asked.replied} of {asked.asked} prompts", file=sys.stderr)
    if "ratings" in found:
        counts = found["ratings"]
        print(f"{counts['rated']} rated, {counts['unknown']} not", file=sys.stderr)
    if "mismatch" in found:
        rate = found["mismatch"]
        counts = ", ".join(f"{n} × {what}" for what, n in rate["counts"].items())
        print(f"think-answer mismatch: {percent(rate)} % ({counts})", file=sys.stderr)
    return {"reader": {"name": asked.name, **found}}
