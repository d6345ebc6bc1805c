"""The command line: one verb per stage, thin over `p2r.stages`.

A user's error is one line, `error: …`, and exit code 2; Ctrl-C is 130. P2R_DEBUG=1 shows where it
came from. Heavy libraries are imported where they are used, so that `p2r --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="p2r",
    help="VideoP2R workbench: from chain-of-thought data to PA-GRPO and case studies.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RunOption = Annotated[
    Path, typer.Option("--run", help="Run folder: made if it is not there, resumed if it is.")
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help="tiny, 3b, 7b or a YAML file. Default: the run's own, or tiny for a new run.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a value. Repeatable."),
]
QuestionsOption = Annotated[
    Path | None,
    typer.Option(
        "--questions",
        help="File of questions (Video-R1, VideoP2R or JSON lines). Default: those the run was "
        "given before, or the playground's.",
    ),
]
RootOption = Annotated[
    Path | None,
    typer.Option(
        "--data-root", help="Folder of the media. Default: the run's, or where the questions are."
    ),
]


@app.command(
    epilog="Example: p2r demo --run runs/demo",
)
def demo(
    run: RunOption = Path("runs/demo"), recipe: RecipeOption = None, set: SetOption = None
) -> None:
    """Run every stage on one recipe, then browse the cases.

    Base, SFT, GRPO and PA-GRPO are compared on held-out scenes. Killed at any point, the same
    command goes on. P2R_NO_APP=1 ends after the results.
    """
    opened = _open(run, recipe, set)

    from p2r.demo import run_demo
    from p2r.tables import make_console

    run_demo(opened, make_console())
    if os.environ.get("P2R_NO_APP") != "1":
        _browse([opened.folder])


@app.command(
    epilog="Example: p2r generate --run runs/x --recipe 7b --questions Video-R1-260k.json "
    "--data-root data --set generate.questions=1000",
)
def generate(
    run: RunOption,
    questions: QuestionsOption = None,
    data_root: RootOption = None,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Step 1: the teacher writes one trace per question."""
    opened = _open(run, recipe, set)
    from p2r import stages

    journal = stages.generate(opened, questions, data_root)
    _report_unanswered(journal.errors_path, len(journal.errors()))


@app.command(epilog="Example: p2r filter --run runs/x")
def filter(run: RunOption, recipe: RecipeOption = None, set: SetOption = None) -> None:
    """Steps 2 and 3: keep what is right and well observed.

    Traces on the template, with a right answer and an observation the judge finds sufficient.
    """
    opened = _open(run, recipe, set, must_exist=True)

    from p2r import stages
    from p2r.tables import funnel_table, make_console

    make_console().print(funnel_table(stages.filter(opened)))


@app.command(epilog="Example: p2r sft --run runs/x")
def sft(run: RunOption, recipe: RecipeOption = None, set: SetOption = None) -> None:
    """Fine-tune the base model on the kept traces."""
    opened = _open(run, recipe, set, must_exist=True)
    from p2r import stages

    print(f"SFT model: {stages.sft(opened)}")


@app.command(
    epilog="Example: p2r rl --run runs/x --credit process. What it would do and need, without any "
    "weights: p2r rl --recipe 7b --dry-run",
)
def rl(
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Run folder. Only --dry-run does without."),
    ] = None,
    credit: Annotated[
        str | None,
        typer.Option(
            help="process (PA-GRPO), outcome (GRPO), shared or decoupled. Default: the recipe's."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to start from. Default: the run's SFT model.")
    ] = None,
    questions: QuestionsOption = None,
    data_root: RootOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check all that needs no weights, print the plan, write nothing."
        ),
    ] = False,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Train the SFT model by PA-GRPO, or GRPO."""
    from p2r import stages

    if credit is not None and credit not in stages.RL_STAGES:
        raise ValueError(f"no credit scheme {credit!r}: choose {', '.join(stages.RL_STAGES)}")
    if dry_run:
        overrides = [*(set or []), *([f"rl.credit={credit}"] if credit else [])]
        _print_dry_run(run, recipe, overrides, model, questions, data_root)
        return
    if run is None:
        raise ValueError("rl needs a run folder: give --run")
    # A new run takes a model from elsewhere; a run that is misspelt is not begun.
    opened = _open(run, recipe, set, must_exist=model is None)
    print(f"RL model: {stages.rl(opened, credit, questions, data_root, model)}")
    _collect(opened)


@app.command(
    name="eval",
    epilog="Example: p2r eval --run runs/x --model runs/x/pa_grpo/model --questions test.jsonl",
)
def evaluate(
    run: RunOption,
    model: Annotated[
        str, typer.Option(help="Model folder, hub id, playground/NAME, or a stage of the run.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the result. Default: from the model's.")
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Ask for the bare answer, without the template.")
    ] = False,
    questions: QuestionsOption = None,
    data_root: RootOption = None,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Measure a model on held-out questions.

    Accuracy, sufficiency, format and mismatch, per problem type, with 95 % intervals.
    """
    from p2r import stages

    if name is not None and name != stages.name_of_model(name):
        raise ValueError(f"--name {name!r} names files: use letters, digits, dots, - and _ alone")
    # A new run is told what it is about; a run that is misspelt is not begun.
    opened = _open(run, recipe, set, must_exist=recipe is None and questions is None)

    from p2r.tables import evaluation_table, make_console

    folder = opened.folder / model / "model"
    chosen = str(folder) if folder.is_dir() else model
    name = name or stages.name_of_model(chosen)
    _, result = stages.evaluate(
        opened, chosen, name, questions, data_root, "direct" if direct else None
    )
    _collect(opened)
    make_console().print(evaluation_table(result))
    _report_unanswered(opened.folder / "eval" / f"{name}.errors.jsonl", len(result["unreadable"]))


@app.command(epilog="Example: p2r study --run runs/demo --seeds 0,1,2")
def study(
    run: RunOption,
    seeds: Annotated[str, typer.Option(help="RL seeds, with commas between.")] = "0,1,2",
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Compare PA-GRPO and GRPO over RL seeds.

    From the run's SFT model, on its test split; the run's own RL models stand for its seed.
    """
    opened = _open(run, recipe, set, must_exist=True)
    try:
        chosen = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ValueError(f"--seeds {seeds!r} is no list of whole numbers: write 0,1,2") from None

    from p2r.studies import compare_credits, study_table
    from p2r.tables import make_console

    make_console().print(study_table(compare_credits(opened, chosen)))


@app.command(name="app", epilog="Example: p2r app runs/demo")
def browse(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run folders, one or several.")
    ],
    media_root: Annotated[
        Path | None, typer.Option(help="Folder of the media. Default: each run's own.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port. Default: the first free one.")
    ] = None,
) -> None:
    """Browse the cases of one run or several."""
    from p2r.runs import check_run

    for folder in runs:
        check_run(folder)
    _browse(runs, media_root, port)


@app.command(
    epilog='Example: p2r ask clip.mp4 "Which way does the ball move?" '
    '--option "A. left" --option "B. right"',
)
def ask(
    video: Annotated[Path, typer.Argument(help="A video or an image.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    model: Annotated[
        str, typer.Option(help="Model folder, hub id or playground/NAME.")
    ] = "playground/teacher",
    option: Annotated[
        list[str] | None, typer.Option("--option", help='An option ("A. left"). Repeatable.')
    ] = None,
    type: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="multiple choice, numerical, OCR, free-form or regression. Default: multiple "
            "choice with options, else free-form.",
        ),
    ] = None,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Answer a question about any clip, live."""
    from p2r.ask import ask_model
    from p2r.recipe import load_recipe

    resolved = load_recipe(recipe or "tiny", set)
    for piece in ask_model(resolved, model, video, question, option or [], type):
        print(piece, end="", flush=True)
    print()


@app.command(
    epilog="Example: p2r doctor --rewards Video-R1-260k.json. Example: p2r doctor --recipe 7b "
    "--gpus 8",
)
def doctor(
    rewards: Annotated[
        Path | None,
        typer.Option(help="Score every gold answer of this file; exit 1 unless each gets 1.0."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Tell what RL with this recipe does and needs."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="With --recipe: on so many GPUs.")] = 1,
    sharding: Annotated[
        str | None,
        typer.Option(
            help="With --recipe: zero3, fsdp2 or none. Default: zero3 with several GPUs, else none."
        ),
    ] = None,
    set: SetOption = None,
) -> None:
    """Check the installation, a file's reference answers, or what a recipe needs."""
    if recipe is not None:
        from p2r.plan import plan_rl
        from p2r.recipe import load_recipe

        _print_plan(plan_rl(load_recipe(recipe, set), gpus, sharding))
        return
    if rewards is not None:
        from p2r.doctor import check_rewards

        check = check_rewards(rewards)
        print(check)
        raise typer.Exit(0 if check.ok else 1)

    from p2r.stack import inspect_stack
    from p2r.tables import make_console, stack_table

    findings = inspect_stack()
    make_console().print(stack_table(findings))
    raise typer.Exit(1 if any(finding.state == "fault" for finding in findings) else 0)


def main() -> None:
    """The entry point: runs the verb and turns errors into one line and an exit code."""
    sys.exit(run_cli())


def run_cli(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0, 1 (a check failed), 2 (an error) or 130 (Ctrl-C)."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        code = app(arguments, prog_name="p2r", standalone_mode=False) or 0
    except (typer.TyperException, ValueError, OSError) as error:
        if os.environ.get("P2R_DEBUG") == "1" and not isinstance(error, typer.TyperException):
            raise
        message = " ".join(_describe(error).split())
        print(f"error: {message}", file=sys.stderr)
        return 2
    if code == 130:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
    return code


def _open(run: Path, recipe: str | None, set: list[str] | None, must_exist: bool = False) -> Any:
    from p2r.runs import open_run

    return open_run(run, recipe, set or (), must_exist=must_exist)


def _print_dry_run(
    run: Path | None,
    recipe: str | None,
    overrides: list[str],
    model: str | None,
    questions: Path | None,
    data_root: Path | None,
) -> None:
    from p2r.plan import dry_run
    from p2r.recipe import load_recipe
    from p2r.runs import check_run

    if run is not None and recipe is None:
        check_run(run)
    resolved = load_recipe(recipe or (run / "recipe.yaml" if run else "tiny"), overrides)
    plan, notes = dry_run(resolved, run=run, model=model, questions=questions, data_root=data_root)
    if os.environ.get("RANK", "0") == "0":
        _print_plan(plan)
        print(*notes, sep="\n")


def _print_plan(plan: Any) -> None:
    from p2r.plan import describe_fit, describe_plan
    from p2r.tables import make_console, memory_table

    print(*describe_plan(plan), sep="\n")
    make_console().print(memory_table(plan))
    print(describe_fit(plan))


def _browse(runs: list[Path], media_root: Path | None = None, port: int | None = None) -> None:
    try:
        from apps.case_browser import launch
    except ImportError as error:
        raise ValueError(
            f"the case browser needs {error.name}: install it with pip install 'p2r[app]'"
        ) from error
    launch(runs, media_root, port=port)


def _collect(run: Any) -> None:
    from p2r.pipeline import collect_cases

    collect_cases(run)


def _report_unanswered(path: Path, count: int) -> None:
    if count:
        print(
            f"{count} could not be answered: reasons in {path} (delete it to try them again)",
            file=sys.stderr,
        )


def _describe(error: Exception) -> str:
    if isinstance(error, typer.TyperException):
        return f"{error.format_message().rstrip('.')} (see p2r --help)"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


if __name__ == "__main__":
    main()
