"""`p2r study`: experiments over several seeds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from p2r.cli.complete import complete_runs
from p2r.cli.options import (
    DryRunOption,
    JsonOption,
    RecipeOption,
    SetOption,
    app,
    open_run,
    print_dry_run,
    print_json,
)
from p2r.errors import UserError

_EXAMPLES = (
    "p2r study --list (all studies)",
    "p2r study credit --run runs/demo --seeds 0,1,2,3,4",
    "p2r study credit --run runs/demo --list (what is done and what is left)",
    "p2r study frames --run runs/demo --page docs/studies (also writes the page)",
    "p2r study my_study.py --run runs/demo",
)


@app.command(epilog=f"Example: {' · '.join(_EXAMPLES)}")
def study(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE.py",
            help="Name of the study, a module of p2r.studies (see --list), or a file of yours that "
            "sets STUDY.",
        ),
    ] = "credit",
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            help="Run folder, with an SFT model. Not needed with --list.",
            autocompletion=complete_runs,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Seeds, separated by commas. Default: the seeds of the stored result, else those "
            "of the study (0,1,2 if its file sets none)."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of workers. On a machine with several GPUs, each worker uses one GPU. "
            "Default: 1 on a GPU and for a study of times, 2 on a CPU with two cores.",
        ),
    ] = None,
    list_only: Annotated[
        bool,
        typer.Option(
            "--list",
            help="Without --run: list all studies. With --run: list every part of the study and "
            "whether it is done. Trains nothing.",
        ),
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also write the page of the study, NAME.md, into this folder."
        ),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Train and evaluate the arms of a study over several seeds.

    A study that was stopped continues with the same command. Finished parts are never done again,
    and studies share models with the same settings. The result is RUN/study_NAME.json.
    """
    from p2r.studies import load_study

    if run is None:
        if not list_only:
            raise UserError("no run folder is given: pass --run FOLDER, or --list to see studies")
        _list_studies(as_json)
        return
    opened = open_run(run, recipe, set, must_exist=True, dry_run=dry_run)
    found = load_study(name)
    chosen = _read_seeds(seeds, opened, found)
    if dry_run:
        from p2r.stages.preview import preview_study

        print_dry_run(preview_study(opened, found.arm_names, chosen))
        return
    if list_only:
        _list_units(found, opened, chosen, as_json)
        return
    from p2r.studies.framework.run import default_jobs, run_study

    measured = run_study(
        found, opened, chosen, jobs=jobs or default_jobs(found), spec=name, report=_print_line
    )
    if page is not None:
        from p2r.studies.framework.page import write_page

        shown = f"p2r study {name} --run {run} --seeds {','.join(map(str, chosen))}"
        _print_line(str(write_page(found, measured, page, shown)))
    if as_json:
        print_json(measured)
        return
    from p2r.cli.tables import make_console, study_tables

    for table in study_tables(measured):
        make_console().print(table)


def _read_seeds(seeds: str | None, run: Any, study: Any) -> list[int]:
    """Return the given seeds, else the seeds of the stored result, else the seeds of the study."""
    if seeds is None:
        from p2r.studies.framework.result import read_result, result_file

        stored = result_file(run.folder, study.name)
        known = read_result(stored)["seeds"] if stored.is_file() else study.seeds
        seeds = ",".join(map(str, known))
    try:
        return [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise UserError(f"--seeds {seeds!r} must be whole numbers, like 0,1,2") from None


def _list_studies(as_json: bool) -> None:
    from p2r.studies import load_study, study_names

    studies = {name: load_study(name) for name in study_names()}
    if as_json:
        print_json(
            {
                name: {
                    **study.text,
                    "arms": study.arm_names,
                    "views": [view.name for view in study.all_views],
                }
                for name, study in studies.items()
            }
        )
        return
    from p2r.cli.tables import grid_table, make_console

    rows = [[name, study.text["question"]] for name, study in studies.items()]
    make_console().print(grid_table("", [["study", "question"], *rows], left=2))


def _list_units(study: Any, run: Any, seeds: list[int], as_json: bool) -> None:
    from p2r.studies.framework.run import estimate_left, list_units, show_seconds
    from p2r.studies.framework.work import Plan

    plan = Plan(study, run, seeds)
    rows, left = list_units(plan), estimate_left(run, plan.work())
    if as_json:
        print_json({"units": rows, "seconds_left": left, "skipped": plan.skipped})
        return
    from p2r.cli.tables import grid_table, make_console

    shown = [[row["unit"], row["state"], row["kind"]] for row in rows]
    make_console().print(grid_table("", [["part", "state", "kind"], *shown], left=3))
    done = sum(row["state"] == "done" for row in rows)
    about = "unknown, because no similar part is done" if left is None else show_seconds(left)
    print(f"{done} of {len(rows)} parts are done; time left with one worker: {about}")
    for what, reason in plan.skipped.items():
        print(f"{what} is skipped: {reason}")


def _print_line(line: str) -> None:
    """Print a line about the work. It may repeat an error with untrusted text."""
    from p2r.files.safe_text import hide_keys, show_unseen

    print(show_unseen(hide_keys(line)), file=sys.stderr, flush=True)
