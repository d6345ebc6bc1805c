"""The verbs of the data set: traces written, traces kept."""

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
            help="Further samples (generate.hard_samples) of the questions of which the filter "
            "has kept none.",
        ),
    ] = False,
) -> None:
    """Step 1: the teacher writes one trace per question (or generate.samples)."""
    part = parse_shard(shard)
    opened = open_run(run, recipe, set)
    from p2r import stages

    journal = stages.generate(
        opened, questions, data_root, shard=part, hard=hard, ray=ray, watch=True
    )
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
            help="US dollars that the run may spend on judges, over all its stages: it stops "
            "before they are exceeded, and goes on with a larger budget.",
        ),
    ] = None,
    batch: Annotated[
        bool | None,
        typer.Option(
            "--batch/--online",
            help="Ask Claude through Message Batches: half the price, an answer within a day.",
        ),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Price the judging from a sample, and stop there.")
    ] = False,
    shard: ShardOption = None,
    ray: RayOption = False,
) -> None:
    """Steps 2 and 3: keep what is right and well observed.

    Traces on the template, with a right answer and an observation the judge finds sufficient.
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
            print("this judge asks no server: judging costs nothing")
        return
    table = stages.filter(opened, shard=part, ray=ray)
    if table is None:
        print(
            "this part is judged; the set is collected when the other parts are, or by p2r filter "
            "without --shard"
        )
        return
    make_console().print(funnel_table(table))
    if unknown := table["all"]["verdict unknown"]:
        print(
            f"{unknown} have no verdict: p2r status {run} says why, and so does each case in "
            f"{run / 'cases' / 'cot.jsonl'}; the same command asks for them again",
            file=sys.stderr,
        )
