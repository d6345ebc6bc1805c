"""The verb of measuring: a model on questions or on a benchmark, and stored outputs anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2r.cli.options import (
    QuestionsOption,
    RecipeOption,
    RootOption,
    SetOption,
    app,
    collect,
    open_run,
    report_unanswered,
)

if TYPE_CHECKING:
    from p2r.evaluation.benchmark_files import Manifest
    from p2r.evaluation.results import Result

# A reader's spec, its budget, the overrides of the recipe.
Read = tuple[str, float | None, list[str] | None]

EXAMPLES = """Example: p2r eval --run runs/x --model runs/x/pa_grpo/model --questions test.jsonl

p2r eval --run runs/x --model 7b --benchmark mmvu --questions validation.json --data-root media

p2r eval --import jsonl outputs.jsonl --benchmark mmvu --out mmvu.json

p2r eval --rescore mmvu.json --json

p2r eval --compare a.json b.json"""


@app.command(name="eval", epilog=EXAMPLES)
def evaluate(
    run: Annotated[
        Path | None, typer.Option("--run", help="Run folder: made if it is not there.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model folder, hub id, playground/NAME, or a stage of the run."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the result. Default: from the model's.")
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Ask for the bare answer, without the template.")
    ] = False,
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="vsibench, videommmu, mmvu, vcrbench, mvbench, tempcompass, videomme or "
            "playground; --questions are then its official files."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what the benchmark's files hold.")
    ] = False,
    import_: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            "--import",
            metavar="FORMAT FILE",
            help="Stored outputs: jsonl, video-r1, videomme-template, tempcompass or lmms-eval.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Result file that --import writes.")] = None,
    rescore: Annotated[
        Path | None, typer.Option(help="Recompute a result file from its stored outputs.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Pair the items of two result files."),
    ] = None,
    transfer: Annotated[
        Path | None,
        typer.Option(
            help="Perception transfer: --model answers from the observations in this result file."
        ),
    ] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(help="Lay a result file beside the paper's tables. Repeatable."),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            metavar="JUDGE",
            help="With --import or --rescore: let a model (claude, server:URL#MODEL or "
            "messages:URL#MODEL) read where the thinking ends, and rate what no rule of "
            "TempCompass matches; stored in the result file.",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0.0, help="US dollars that the reader may cost at most, over all calls."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    questions: QuestionsOption = None,
    data_root: RootOption = None,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Measure a model, or score stored outputs again.

    On held-out questions: accuracy, sufficiency, format and mismatch, with 95 % intervals. On a
    benchmark also its official and a robust score. Stored outputs need no model and no GPU.
    """
    asked = {
        "--import": import_,
        "--rescore": rescore,
        "--compare": compare,
        "--report": report,
        "--check": check or None,
    }
    given = [key for key, value in asked.items() if value]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} cannot go together: give one of them")
    if (reader and not (import_ or rescore)) or (budget is not None and not reader):
        raise ValueError("--reader goes with --import or --rescore, and --budget with --reader")
    read = (reader, budget, set) if reader else None
    if import_:
        _import(*import_, benchmark, out, questions, name, as_json, read)
    elif rescore:
        _rescore(rescore, out, as_json, read)
    elif compare:
        _compare(*compare, as_json)
    elif report:
        _report(report, as_json)
    elif check:
        _check(benchmark, questions, data_root, as_json)
    else:
        _run(run, model, name, direct, benchmark, questions, data_root, recipe, set, transfer)


def _run(
    run: Path | None,
    model: str | None,
    name: str | None,
    direct: bool,
    benchmark: str | None,
    questions: Path | None,
    data_root: Path | None,
    recipe: str | None,
    set: list[str] | None,
    transfer: Path | None,
) -> None:
    if run is None or model is None:
        raise ValueError("give --run and --model, or --import, --rescore, --compare or --report")
    from p2r import stages

    if name is not None and name != stages.name_of_model(name):
        raise ValueError(f"--name {name!r} names files: use letters, digits, dots, - and _ alone")
    # A new run is told what it is about; a run that is misspelt is not begun.
    opened = open_run(run, recipe, set, must_exist=recipe is None and questions is None)

    from p2r.cli.tables import evaluation_table, make_console

    folder = opened.folder / model / "model"
    chosen = str(folder) if folder.is_dir() else model
    name = name or stages.name_of_model(chosen)
    style = "direct" if direct else None
    if transfer is not None:
        files = stages.transfer(
            opened, chosen, f"{name}-transfer", transfer, benchmark, questions, data_root, style
        )
        collect(opened)
        _report(files, as_json=False)
        return
    if benchmark is None or benchmark == "playground":
        _, result = stages.evaluate(opened, chosen, name, questions, data_root, style)
    else:
        if questions is None:
            raise ValueError(f"--benchmark {benchmark} needs --questions: its official files")
        name = f"{name}-{benchmark}"
        _, result = stages.evaluate_benchmark(
            opened, chosen, name, benchmark, questions, data_root, style, _print_manifest
        )
    collect(opened)
    console = make_console()
    console.print(evaluation_table(result))
    if benchmark is not None:
        from p2r.evaluation.run import result_path

        _print_scores(json.loads(result_path(opened, name).read_text(encoding="utf-8")))
    report_unanswered(opened.folder / "eval" / f"{name}.errors.jsonl", len(result["unreadable"]))


def _print_manifest(manifest: Manifest) -> None:
    for line in manifest.lines():
        print(line, file=sys.stderr)


def _check(
    benchmark: str | None, questions: Path | None, data_root: Path | None, as_json: bool
) -> None:
    if benchmark is None or questions is None:
        raise ValueError("--check needs --benchmark and --questions (and --data-root for media)")
    from p2r.evaluation.benchmark_files import read_benchmark

    _, manifest = read_benchmark(benchmark, questions, data_root)
    if as_json:
        print(json.dumps({**vars(manifest), "complete": manifest.complete}, indent=1))
    else:
        print("\n".join(manifest.lines()))


def _import(
    format: str,
    file: Path,
    benchmark: str | None,
    out: Path | None,
    questions: Path | None,
    name: str | None,
    as_json: bool,
    read: Read | None,
) -> None:
    if benchmark is None or out is None:
        raise ValueError("--import needs --benchmark NAME and --out FILE.json")
    from p2r.evaluation.benchmarks import find_benchmark
    from p2r.evaluation.importers import import_outputs
    from p2r.evaluation.results import from_import, write_result

    entry = find_benchmark(benchmark)
    known = None
    if questions is not None:
        from p2r.evaluation.benchmark_files import read_benchmark

        known = {fields.id: fields for fields in read_benchmark(entry.name, questions)[0]}
    found = import_outputs(format, file, entry.name, known)
    result = from_import(found, entry.name, name or file.stem, format, file)
    write_result(result, out)
    said = _read(result, out, *read) if read else {}
    _print_numbers(result.numbers | said, as_json)
    for reason, count in found.counts.items():
        examples = "; ".join(found.examples.get(reason, ()))
        print(f"{count} × {reason}" + (f": {examples}" if examples else ""), file=sys.stderr)


def _rescore(file: Path, out: Path | None, as_json: bool, read: Read | None) -> None:
    from p2r.evaluation.results import read_result, rescore, write_result

    result = read_result(file)
    said = _read(result, out or file, *read) if read else {}
    if out is not None and not read:
        write_result(result, out)
    _print_numbers(rescore(result) | said, as_json)


def _read(
    result: Result, out: Path, reader: str, budget: float | None, set: list[str] | None
) -> dict[str, Any]:
    """Let a reader add its words to a result, and write them to its file; what it found."""
    from p2r.evaluation.compare import percent
    from p2r.evaluation.readers import make_reader, read_result_with
    from p2r.evaluation.results import write_result
    from p2r.runs.recipe import load_recipe

    limit = [] if budget is None else [f"judging.budget={budget}"]
    settings = load_recipe("tiny", [*(set or ()), *limit]).judging
    asked = make_reader(reader, settings, out)
    found = read_result_with(result, asked)
    write_result(result, out)
    print(f"{asked.name} replied to {asked.replied} of {asked.asked} prompts", file=sys.stderr)
    if "ratings" in found:
        counts = found["ratings"]
        print(f"{counts['rated']} rated, {counts['unknown']} not", file=sys.stderr)
    if "mismatch" in found:
        rate = found["mismatch"]
        counts = ", ".join(f"{n} × {what}" for what, n in rate["counts"].items())
        print(f"think-answer mismatch: {percent(rate)} % ({counts})", file=sys.stderr)
    return {"reader": {"name": asked.name, **found}}


def _print_numbers(numbers: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(numbers, indent=1))
    else:
        _print_scores(numbers)


def _print_scores(numbers: dict[str, Any]) -> None:
    from p2r.cli.tables import make_console, scores_table

    make_console().print(scores_table(numbers))
    for what, count in numbers["counts"].items():
        print(f"{what}: {count}")


def _compare(a: Path, b: Path, as_json: bool) -> None:
    from p2r.evaluation.compare import compare, comparison_markdown
    from p2r.evaluation.results import read_result

    found = compare(read_result(a), read_result(b))
    print(json.dumps(found, indent=1) if as_json else comparison_markdown(found).rstrip())


def _report(files: list[Path], as_json: bool) -> None:
    from p2r.evaluation.report import build_report, report_markdown
    from p2r.evaluation.results import read_result

    found = build_report([read_result(file) for file in files])
    print(json.dumps(found, indent=1) if as_json else report_markdown(found).rstrip())
