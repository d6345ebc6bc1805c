"""The commands `p2r generate` and `p2r filter`, which make the SFT set."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from p2r.cli.options import (
    QuestionsOption,
    RayOption,
    RecipeOption,
    RootOption,
    RunOption,
    SetOption,
    ShardOption,
    app,
    open_run,
    parse_shard,
    report_unanswered,
)


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
    shard: ShardOption = None,
    ray: RayOption = False,
    hard: Annotated[
        bool,
        typer.Option(
            "--hard",
            help="Write more samples (generate.hard_samples) of the questions whose traces the "
            "filter has all dropped.",
        ),
    ] = False,
) -> None:
    """Step 1: the teacher writes one trace per question (or generate.samples)."""
    part = parse_shard(shard)
    opened = open_run(run, recipe, set)
    from p2r import stages

    journal = stages.generate(opened, questions, data_root, shard=part, hard=hard, ray=ray)
    report_unanswered(journal.errors_path, len(journal.errors()))


@app.command(epilog="Example: p2r filter --run runs/x --set filter.judge=claude --budget 50")
def filter(
    run: RunOption,
    recipe: RecipeOption = None,
    set: SetOption = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            min=0.0,
            help="US dollars that the run may spend on judges in all its stages. It stops before "
            "it would spend more, and resumes with a larger budget.",
        ),
    ] = None,
    batch: Annotated[
        bool | None,
        typer.Option(
            "--batch/--online",
            help="Ask Claude through Message Batches: half the price, answers within a day.",
        ),
    ] = None,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Estimate the cost of judging, then stop."),
    ] = False,
    shard: ShardOption = None,
    ray: RayOption = False,
) -> None:
    """Steps 2 and 3: keep traces with a right answer and a sufficient observation.

    A kept trace follows the template, and the judge finds its observation sufficient.
    """
    given = {"budget": budget, "batch": batch}
    overrides = [f"judging.{key}={value}" for key, value in given.items() if value is not None]
    part = parse_shard(shard)
    opened = open_run(run, recipe, [*(set or []), *overrides], must_exist=True)

    from p2r import stages
    from p2r.cli.tables import estimate_table, funnel_table, make_console

    if estimate:
        found = stages.estimate_filter(opened)
        for each in found:
            make_console().print(estimate_table(each))
        if not found:
            print("this judge needs no paid server: judging costs nothing")
        return
    table = stages.filter(opened, shard=part, ray=ray)
    if table is None:
        print(
            "this shard is finished; the last shard to finish collects the SFT set, or p2r filter "
            "without --shard does"
        )
        return
    make_console().print(funnel_table(table))
    if unknown := table["all"]["verdict unknown"]:
        print(
            f"{unknown} have no verdict: p2r status {run} and the cases in "
            f"{run / 'cases' / 'cot.jsonl'} have the reasons; run the same command to ask again",
            file=sys.stderr,
        )
