"""The commands for training: `p2r sft` and `p2r rl`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.complete import complete_runs
from p2r.cli.options import (
    DryRunOption,
    MoveRootOption,
    QuestionsOption,
    RecipeOption,
    ResumeOption,
    RootOption,
    SetOption,
    app,
    check_begun,
    collect,
    move_data_root,
    open_run,
    print_dry_run,
    print_plan,
)


@app.command(
    epilog="Example: p2r sft --run runs/x. On a released set: p2r sft --run runs/y --recipe 7b "
    "--cases VideoP2R-162k_sft.part1of2.json.gz --data-root media"
)
def sft(
    run: Annotated[
        Path,
        typer.Option(
            "--run",
            help="Run folder. With --cases it may be new.",
            autocompletion=complete_runs,
        ),
    ],
    cases: Annotated[
        Path | None,
        typer.Option(
            help="File of traces to learn (VideoP2R-CoT, Video-R1-CoT, JSON lines). Default: the "
            "traces that the filter kept."
        ),
    ] = None,
    data_root: RootOption = None,
    dry_run: DryRunOption = False,
    resume: ResumeOption = False,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Fine-tune the base model on the kept traces, or on a file of traces."""
    if data_root is not None and cases is None:
        raise ValueError("--data-root is the media folder of --cases: give --cases FILE with it")
    opened = open_run(run, recipe, set, must_exist=cases is None, dry_run=dry_run)
    if dry_run:
        from p2r.stages.preview import preview_sft

        print_dry_run(preview_sft(opened, cases, data_root))
        return
    from p2r import stages

    if resume:
        check_begun(opened.folder / "sft")
    print(f"SFT model: {stages.sft(opened, cases, data_root)}")


@app.command(
    epilog="Example: p2r rl --run runs/x --credit process. To see the plan and the memory that it "
    "needs: p2r rl --recipe 7b --dry-run",
)
def rl(
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Run folder. With --model it may be new. Not needed with --dry-run."
        ),
    ] = None,
    credit: Annotated[
        str | None,
        typer.Option(
            help="process (PA-GRPO), outcome (GRPO), temporal (T-GRPO), turn (MT-GRPO), critic "
            "(PPO), critic_process, shared or decoupled. Default: rl.credit."
        ),
    ] = None,
    arm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Train an arm of the demo (`demo.arms` in the recipe), in place of --credit.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model to start from. Default: the run's SFT model.")
    ] = None,
    questions: QuestionsOption = None,
    data_root: RootOption = None,
    move_root: MoveRootOption = False,
    dry_run: DryRunOption = False,
    resume: ResumeOption = False,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Train the SFT model with PA-GRPO or GRPO."""
    from p2r import stages
    from p2r.runs.names import rl_stage
    from p2r.runs.software import is_main_worker

    if credit is not None and credit not in stages.RL_STAGES:
        raise ValueError(f"unknown credit scheme {credit!r}: choose {', '.join(stages.RL_STAGES)}")
    if credit is not None and arm is not None:
        raise ValueError("an arm already has a credit scheme: leave out --credit or --arm")
    if dry_run:
        if run is not None:  # the run refuses the settings that it would refuse without --dry-run
            open_run(run, recipe, set, must_exist=recipe is None, dry_run=True)
        overrides = [*(set or []), *([f"rl.credit={credit}"] if credit else [])]
        _print_dry_run(run, recipe, overrides, model, questions, data_root, arm)
        return
    if run is None:
        raise ValueError("no run folder is given: pass --run FOLDER")
    # Only a run with --model may be new. So a misspelt run folder is an error, not a new run.
    opened = open_run(run, recipe, set, must_exist=resume or model is None)
    if resume:
        settings = opened.recipe.rl.model_copy(update={"credit": credit} if credit else {})
        check_begun(opened.folder / (arm or rl_stage(settings)))
    move_data_root(opened, move_root, data_root, questions)
    print(f"RL model: {stages.rl(opened, credit, questions, data_root, model, arm)}")
    if is_main_worker():
        collect(opened)


def _print_dry_run(
    run: Path | None,
    recipe: str | None,
    overrides: list[str],
    model: str | None,
    questions: Path | None,
    data_root: Path | None,
    arm: str | None = None,
) -> None:
    from p2r.runs.recipe import load_recipe
    from p2r.runs.software import is_main_worker
    from p2r.training.dry_run import dry_run

    resolved = load_recipe(recipe or (run / "recipe.yaml" if run else "tiny"), overrides)
    resolved = resolved.of_arm(arm) if arm else resolved
    plan, notes = dry_run(resolved, run=run, model=model, questions=questions, data_root=data_root)
    if is_main_worker():
        print_plan(plan)
        print(*notes, sep="\n")
