"""`p2r doctor`: checks the installation, reference answers, and the needs of a recipe."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.options import JsonOption, SetOption, app, print_plan


@app.command(
    epilog="Example: p2r doctor --rewards Video-R1-260k.json. Example: p2r doctor --recipe 7b "
    "--gpus 8",
)
def doctor(
    rewards: Annotated[
        Path | None,
        typer.Option(
            help="Score every reference answer of a file. Exit code 1 unless all get 1.0."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", help="Show the memory, time and judge cost of every stage of this recipe."
        ),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="With --recipe: the number of GPUs.")] = 1,
    sharding: Annotated[
        str | None,
        typer.Option(
            help="With --recipe: zero3, zero2, fsdp2 or none. Default: zero3, on one GPU none."
        ),
    ] = None,
    card: Annotated[
        int | None,
        typer.Option(
            help="With --recipe: GB of each GPU, 24 or 80. Default: the smaller one if all fits."
        ),
    ] = None,
    as_json: JsonOption = False,
    set: SetOption = None,
) -> None:
    """Check the installation.

    Or check the reference answers of a file, or the needs of a recipe.
    """
    if recipe is not None:
        from p2r.cli.tables import budget_table, make_console
        from p2r.runs.recipe import load_recipe
        from p2r.training.budget import plan_stages

        budget = plan_stages(load_recipe(recipe, set), gpus, sharding, card)
        if as_json:
            stages = [asdict(stage) for stage in budget.stages]
            memory = dict(budget.rl.memory)
            print(json.dumps({"stages": stages, "rl_memory": memory}, indent=1, default=list))
            return
        print_plan(budget.rl)
        make_console().print(budget_table(budget))
        return
    if rewards is not None:
        from p2r.datasets.check_rewards import check_rewards

        check = check_rewards(rewards)
        if as_json:
            counts = {"questions": dict(check.questions), "right": dict(check.right)}
            failures = [asdict(failure) for failure in check.failures]
            print(json.dumps({"ok": check.ok, **counts, "failures": failures}, indent=1))
        else:
            print(check)
        raise typer.Exit(0 if check.ok else 1)

    from p2r.cli.stack import inspect_stack
    from p2r.cli.tables import make_console, stack_table

    findings = inspect_stack()
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=1))
    else:
        make_console().print(stack_table(findings))
    raise typer.Exit(1 if any(finding.state == "fault" for finding in findings) else 0)
