"""The verbs of training: SFT, RL, a comparison over seeds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.options import (
    QuestionsOption,
    RecipeOption,
    ResumeOption,
    RootOption,
    RunOption,
    SetOption,
    app,
    check_begun,
    collect,
    open_run,
    print_plan,
)


@app.command(epilog="Example: p2r sft --run runs/x")
def sft(
    run: RunOption,
    resume: ResumeOption = False,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Fine-tune the base model on the kept traces."""
    opened = open_run(run, recipe, set, must_exist=True)
    from p2r import stages

    if resume:
        check_begun(opened.folder / "sft")
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
    resume: ResumeOption = False,
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
    opened = open_run(run, recipe, set, must_exist=resume or model is None)
    if resume:
        check_begun(opened.folder / stages.RL_STAGES[credit or opened.recipe.rl.credit])
    print(f"RL model: {stages.rl(opened, credit, questions, data_root, model)}")
    collect(opened)


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
    opened = open_run(run, recipe, set, must_exist=True)
    try:
        chosen = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ValueError(f"--seeds {seeds!r} is no list of whole numbers: write 0,1,2") from None

    from p2r.cli.tables import make_console, study_table
    from p2r.studies import compare_credits

    make_console().print(study_table(compare_credits(opened, chosen)))


def _print_dry_run(
    run: Path | None,
    recipe: str | None,
    overrides: list[str],
    model: str | None,
    questions: Path | None,
    data_root: Path | None,
) -> None:
    from p2r.runs import check_run
    from p2r.runs.recipe import load_recipe
    from p2r.training.plan import dry_run

    if run is not None and recipe is None:
        check_run(run)
    resolved = load_recipe(recipe or (run / "recipe.yaml" if run else "tiny"), overrides)
    plan, notes = dry_run(resolved, run=run, model=model, questions=questions, data_root=data_root)
    if os.environ.get("RANK", "0") == "0":
        print_plan(plan)
        print(*notes, sep="\n")
