"""`p2r runs`: list and compare run folders."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.complete import complete_runs
from p2r.cli.options import JsonOption, app

runs_app = typer.Typer(name="runs", help="List and compare runs.", no_args_is_help=True)
app.add_typer(runs_app)


@runs_app.command("list", epilog="Example: p2r runs list")
def list_runs(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="The folder that holds the runs.")
    ] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List the runs in a folder, the newest first."""
    from p2r.stages.status import list_runs

    found = list_runs(folder)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    if not found:
        print(f"no run in {folder}: a run is a folder with recipe.yaml")
        return
    from p2r.cli.tables import grid_table, make_console
    from p2r.scoring import format_interval

    rows = [["run", "recipe", "last write", "stages (… not finished)", "accuracy %"]]
    for run in found:
        stages = (
            name if state == "finished" else f"{name} …" for name, state in run["stages"].items()
        )
        scores = (
            f"{model} {format_interval(metrics['accuracy'])}"
            for model, metrics in run["metrics"].items()
            if "accuracy" in metrics
        )
        written = datetime.fromtimestamp(run["written"]).strftime("%Y-%m-%d %H:%M")
        rows.append([run["run"], run["recipe"], written, ", ".join(stages), "\n".join(scores)])
    make_console().print(grid_table(f"runs in {folder}", rows, left=5))


@runs_app.command(epilog="Example: p2r runs compare runs/a runs/b")
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN RUN...", help="Run folders.", autocompletion=complete_runs),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show the settings in which runs differ, and their metrics side by side."""
    from p2r.runs import check_run
    from p2r.runs.recipe_keys import show_value
    from p2r.stages.status import compare_runs

    if len(runs) < 2:
        raise typer.BadParameter("give two runs or more")
    for run in runs:
        check_run(run)
    found = compare_runs(runs)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    from p2r.cli.tables import grid_table, make_console
    from p2r.scoring import format_interval

    console = make_console()
    names = found["runs"]
    settings = [[key, *map(show_value, values)] for key, values in found["settings"].items()]
    if settings:
        console.print(grid_table("settings", [["key", *names], *settings], left=len(names) + 1))
    else:
        print("all settings are equal")
    scores = [[name, *map(format_interval, each)] for name, each in found["metrics"].items()]
    if scores:
        console.print(grid_table("% [95 % interval]", [["metric", *names], *scores]))
