"""`p2r eval`: measures a model, and scores, compares and reports stored outputs.

The old spelling, with options in place of subcommands (`p2r eval --rescore FILE`), still works: see
`translate`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from p2r.cli.options import (
    DryRunOption,
    JsonOption,
    MoveRootOption,
    QuestionsOption,
    RecipeOption,
    RootOption,
    SetOption,
    app,
    collect,
    move_data_root,
    open_run,
    print_dry_run,
    report_unanswered,
)
from p2r.errors import UserError
from p2r.evaluation.benchmarks import (
    all_benchmarks,
    benchmark_names,
    find_benchmark,
    load_benchmark,
)
from p2r.runs.recipe import read_style

if TYPE_CHECKING:
    from p2r.evaluation.questions import Manifest
    from p2r.evaluation.results import Result
    from p2r.runs import Run

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

RunOption = Annotated[
    Path, typer.Option("--run", help="Run folder. It is created if it does not exist.")
]
ModelOption = Annotated[
    str,
    typer.Option("--model", help="Model folder, hub id, playground/NAME, or a stage of the run."),
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the result. Default: from the model's name.")
]
StyleOption = Annotated[
    str | None,
    typer.Option(
        "--style",
        metavar="STYLE",
        help="The prompt: full (observation, think, answer), think (no observation), direct (the "
        "bare answer), or a prompt file. Default: the prompt that SFT taught.",
    ),
]
DirectOption = Annotated[bool, typer.Option("--direct", help="The same as --style direct.")]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge", help="Judge of the observations; none asks no judge. Default: eval.judge."
    ),
]
BenchmarkOption = Annotated[
    str,
    typer.Option(
        "--benchmark",
        help=f"{', '.join(benchmark_names())}, own:NAME for another set of questions, "
        "or a Python file that defines a benchmark. "
        "--questions gives its official files.",
    ),
]
OwnOption = Annotated[
    str | None,
    typer.Option(
        "--benchmark",
        metavar="FILE.py",
        help="Python file of your own benchmark, if a result file is about it.",
    ),
]
ResultArgument = Annotated[Path, typer.Argument(metavar="FILE", help="Result file.")]
AllOption = Annotated[
    bool,
    typer.Option(
        "--all", help="Use all questions of the benchmark, not only the paper's (vcrbench)."
    ),
]
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


@eval_app.command(
    "run",
    epilog="Example: p2r eval run --run runs/x --model 7b --benchmark mmvu "
    "--questions validation.json --data-root media",
)
def run_model(
    run: RunOption,
    model: ModelOption,
    name: NameOption = None,
    style: StyleOption = None,
    direct: DirectOption = False,
    judge: JudgeOption = None,
    benchmark: Annotated[str | None, *BenchmarkOption.__metadata__] = None,
    questions: QuestionsOption = None,
    data_root: RootOption = None,
    all_questions: AllOption = False,
    move_root: MoveRootOption = False,
    dry_run: DryRunOption = False,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Measure a model: accuracy, sufficiency, format and mismatch, with 95 % intervals.

    On a benchmark, also its official score and a robust score.
    """
    from p2r import stages

    opened, chosen, name = _open(run, model, name, recipe, set, questions, dry_run)
    opened = _with_judge(opened, judge)
    entry = None if benchmark is None else find_benchmark(_choose(benchmark, all_questions))
    chosen_style = _style(style, direct)
    if dry_run:
        from p2r.stages.preview import preview_evaluation

        chosen_set = None if entry is None or entry.built_in else entry.name
        print_dry_run(
            preview_evaluation(opened, chosen, chosen_set, questions, data_root, chosen_style)
        )
        return
    move_data_root(opened, move_root, data_root, questions)
    if entry is None or entry.built_in:
        _, result = stages.evaluate(opened, chosen, name, questions, data_root, chosen_style)
    else:
        if questions is None:
            raise UserError(f"--benchmark {benchmark} needs --questions: give its official files")
        name = f"{name}-{entry.name.replace(':', '-')}"
        _, result = stages.evaluate_benchmark(
            opened, chosen, name, entry.name, questions, data_root, chosen_style, _print_manifest
        )
    collect(opened)
    from p2r.cli.tables import evaluation_table, make_console

    make_console().print(evaluation_table(result))
    if entry is not None:
        from p2r.evaluation.run import result_path

        _print_numbers(json.loads(result_path(opened, name).read_text(encoding="utf-8")))
    report_unanswered(opened.folder / "eval" / f"{name}.errors.jsonl", len(result["unreadable"]))


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
    """Check a benchmark's files: number of questions, missing media, odd records."""
    from p2r.evaluation.questions import read_benchmark

    _, manifest = read_benchmark(_choose(benchmark, all_questions), questions, data_root)
    if as_json:
        print(json.dumps({**vars(manifest), "complete": manifest.complete}, indent=1))
    else:
        print("\n".join(manifest.lines()))


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
            min=0, max=1, help="Place of the first option, if the outputs are places of options."
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
    chosen = _choose(benchmark, all_questions)
    conditions = dict(map(_split_condition, where or ())) or None
    result = import_result(format, file, chosen, questions, name, conditions, count_from)
    write_result(result, out)
    said = _read(result, out, reader, budget, set)
    _print_numbers(result.numbers | said, as_json)
    for reason, count in result.counts.items():
        examples = "; ".join(result.examples.get(reason, ()))
        print(f"{count} × {reason}" + (f": {examples}" if examples else ""), file=sys.stderr)


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
    _load(benchmark)
    result = results.read_result(file)
    said = _read(result, out or file, reader, budget, set)
    if out is not None and not reader:
        results.write_result(result, out)
    _print_numbers(results.rescore(result) | said, as_json)


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

    _load(benchmark)
    found = compare(read_result(a), read_result(b))
    print(json.dumps(found, indent=1) if as_json else comparison_markdown(found).rstrip())


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
    """Put result files beside the paper's tables. Rows are marked as measured or quoted."""
    _load(benchmark)
    _report(files, as_json, table or ())


@eval_app.command(
    epilog="Example: p2r eval transfer a.json --run runs/x --model base --benchmark mmvu "
    "--questions validation.json"
)
def transfer(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Result file with another model's observations.")
    ],
    run: RunOption,
    model: ModelOption,
    name: NameOption = None,
    style: StyleOption = None,
    direct: DirectOption = False,
    judge: JudgeOption = None,
    benchmark: Annotated[str | None, *BenchmarkOption.__metadata__] = None,
    questions: QuestionsOption = None,
    data_root: RootOption = None,
    dry_run: DryRunOption = False,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Perception transfer: let a model answer from another model's observations (Table 5)."""
    from p2r import stages

    benchmark = _load(benchmark)
    opened, chosen, name = _open(run, model, name, recipe, set, questions, dry_run)
    opened = _with_judge(opened, judge)
    chosen_style = _style(style, direct)
    if dry_run:
        from p2r.stages.preview import preview_evaluation, preview_transfer

        own = None if questions is None else benchmark
        plan = preview_evaluation(opened, chosen, own, questions, data_root, chosen_style)
        print_dry_run([*plan, *preview_transfer(opened, file)])
        return
    written = stages.transfer(
        opened, chosen, f"{name}-transfer", file, benchmark, questions, data_root, chosen_style
    )
    collect(opened)
    left_out = json.loads(written[0].read_text(encoding="utf-8"))["made"]["left_out"]
    for reason, count in left_out.items():
        print(f"{count} questions {reason}", file=sys.stderr)
    _report(written)


# ---- what the commands share


def _open(
    run: Path,
    model: str,
    name: str | None,
    recipe: str | None,
    set: list[str] | None,
    questions: Path | None,
    dry_run: bool = False,
) -> tuple[Run, str, str]:
    """Return the opened run, the model to load, and the name of the result."""
    from p2r import stages

    if name is not None and name != stages.name_of_model(name):
        raise UserError(f"--name {name!r} is part of file names: use letters, digits, ., - and _")
    # A new run needs a recipe or questions, so that a misspelt run is not created.
    opened = open_run(
        run, recipe, set, must_exist=recipe is None and questions is None, dry_run=dry_run
    )
    folder = opened.folder / model / "model"
    chosen = str(folder) if folder.is_dir() else model
    return opened, chosen, name or stages.name_of_model(chosen)


def _style(style: str | None, direct: bool) -> str | None:
    """Return the prompt style that the options give; a prompt file is read."""
    if direct and style not in (None, "direct"):
        raise UserError(f"--direct and --style {style} differ: give one of them")
    return "direct" if direct else style and read_style(style)


def _with_judge(run: Run, judge: str | None) -> Run:
    """Return the run with another judge of evaluation; its recipe file stays as it is."""
    if judge is None:
        return run
    changed = run.recipe.eval.model_copy(update={"judge": judge})
    return replace(run, recipe=run.recipe.model_copy(update={"eval": changed}))


def _load(benchmark: str | None) -> str | None:
    """Return the name of a benchmark. A Python file is loaded first."""
    return benchmark and load_benchmark(benchmark).name


def _choose(benchmark: str, all_questions: bool) -> str:
    """Return the name of a benchmark, or of its variant with all questions."""
    entry = load_benchmark(benchmark)
    if not all_questions:
        return entry.name
    if f"{entry.name}all" not in all_benchmarks():
        raise UserError(f"{entry.title} has no variant with more questions: leave out --all")
    return f"{entry.name}all"


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


def _print_manifest(manifest: Manifest) -> None:
    for line in manifest.lines():
        print(line, file=sys.stderr)


def _print_numbers(numbers: dict[str, Any], as_json: bool = False) -> None:
    """Print the table, the counts and the warnings. With JSON, warnings also go to stderr."""
    from p2r.evaluation.alarms import alarm_lines

    alarms = alarm_lines(numbers.get("warnings", ()))
    if as_json:
        print(json.dumps(numbers, indent=1))
        print(*alarms, sep="\n", end="\n" if alarms else "", file=sys.stderr)
        return
    from p2r.cli.tables import make_console, scores_table

    make_console().print(scores_table(numbers))
    for what, count in numbers["counts"].items():
        print(f"{what}: {count}")
    print(*alarms, sep="\n", end="\n" if alarms else "")


def _report(files: list[Path], as_json: bool = False, tables: Sequence[str] = ()) -> None:
    from p2r.evaluation.paper import TITLES
    from p2r.evaluation.report import build_report, report_markdown
    from p2r.evaluation.results import read_result

    if unknown := sorted(set(tables) - TITLES.keys()):
        raise UserError(f"no table {', '.join(unknown)}: use one of {', '.join(TITLES)}")
    found = build_report([read_result(file) for file in files], tables)
    print(json.dumps(found, indent=1) if as_json else report_markdown(found).rstrip())
