"""The commands of the data pipeline: generate and filter traces."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from p2r.cli.options import (
    DryRunOption,
    JsonOption,
    MoveRootOption,
    OldRunOption,
    QuestionsOption,
    RayOption,
    RecipeOption,
    RootOption,
    RunOption,
    SetOption,
    ShardOption,
    app,
    move_data_root,
    open_run,
    parse_shard,
    print_dry_run,
    print_json,
    report_unanswered,
)
from p2r.cli.parallel import ParallelOption, run_parts


@app.command(
    epilog="Example: p2r generate --run runs/x --recipe 7b --questions Video-R1-260k.json "
    "--data-root data --set generate.questions=1000",
)
def generate(
    run: RunOption,
    questions: QuestionsOption = None,
    data_root: RootOption = None,
    move_root: MoveRootOption = False,
    recipe: RecipeOption = None,
    set: SetOption = None,
    shard: ShardOption = None,
    parallel: ParallelOption = None,
    ray: RayOption = False,
    hard: Annotated[
        bool,
        typer.Option(
            "--hard",
            help="Sample again (generate.hard_samples) the questions for which the filter kept no "
            "trace.",
        ),
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Step 1: the teacher writes traces.

    It writes one trace per question, or generate.samples traces.
    """
    part = parse_shard(shard)
    opened = open_run(run, recipe, set, dry_run=dry_run)
    if dry_run:
        from p2r.stages.preview import preview_generate

        print_dry_run(preview_generate(opened, questions, data_root))
        return
    move_data_root(opened, move_root, data_root, questions)
    run_parts(parallel, shard, ray)
    from p2r import stages

    journal = stages.generate(opened, questions, data_root, shard=part, hard=hard, ray=ray)
    report_unanswered(journal.errors_path, len(journal.errors()))


@app.command(epilog="Example: p2r filter --run runs/x --set filter.judge=claude --budget 50")
def filter(
    run: OldRunOption,
    recipe: RecipeOption = None,
    set: SetOption = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            min=0.0,
            help="US dollars that all stages of the run may spend on judges. The run stops before "
            "it exceeds the budget. Give a larger budget to continue.",
        ),
    ] = None,
    batch: Annotated[
        bool | None,
        typer.Option(
            "--batch/--online",
            help="Use Claude's Message Batches: half the price, answers within a day.",
        ),
    ] = None,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Estimate the cost of judging from a sample, and stop."),
    ] = False,
    shard: ShardOption = None,
    ray: RayOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Steps 2 and 3: keep good traces for training.

    A trace is kept if it follows the template, its answer is right, and the judge finds its
    observation sufficient.
    """
    given = {"budget": budget, "batch": batch}
    overrides = [f"judging.{key}={value}" for key, value in given.items() if value is not None]
    part = parse_shard(shard)
    opened = open_run(run, recipe, [*(set or []), *overrides], must_exist=True, dry_run=dry_run)
    if dry_run:
        from p2r.stages.preview import preview_filter

        print_dry_run(preview_filter(opened, part, ray))
        return

    from p2r import stages
    from p2r.cli.tables import estimate_table, funnel_table, make_console

    if estimate:
        found = stages.estimate_filter(opened)
        if as_json:
            print_json([asdict(each) for each in found])
            return
        for each in found:
            make_console().print(estimate_table(each))
        if not found:
            print("this judge uses no server: judging is free")
        return
    table = stages.filter(opened, shard=part, ray=ray)
    if as_json:
        print_json({"funnel": table})
        return
    if table is None:
        print(
            "this part is judged. The SFT set is written when all parts are judged, or by "
            "p2r filter without --shard"
        )
        return
    make_console().print(funnel_table(table))
    if unknown := table["all"]["verdict unknown"]:
        print(
            f"{unknown} have no verdict: see p2r status {run} or the cases in "
            f"{run / 'cases' / 'cot.jsonl'} for the reasons. Run the same command to retry",
            file=sys.stderr,
        )
