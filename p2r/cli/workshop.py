"""`p2r workshop`: start the course again, make a bundle for a classroom without network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.complete import complete_runs
from p2r.cli.options import DryRunOption, app, print_dry_run
from p2r.errors import UserError

workshop_app = typer.Typer(
    name="workshop", help="Prepare the course, or start it again.", no_args_is_help=True
)
app.add_typer(workshop_app)
FolderArgument = Annotated[
    Path, typer.Argument(metavar="[FOLDER]", help="The folder of the project, with notebooks/.")
]


@workshop_app.command(epilog="Example: p2r workshop reset")
def reset(
    folder: FolderArgument = Path("."),
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            help="Run folder to delete. Repeat for more. Default: runs/workshop and its variants.",
            autocompletion=complete_runs,
        ),
    ] = None,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Delete no run.")] = False,
    keep_notebooks: Annotated[
        bool, typer.Option("--keep-notebooks", help="Leave the notebooks as they are.")
    ] = False,
    prebuilt: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Copy this finished run to runs/workshop."),
    ] = None,
    start_at: Annotated[
        int,
        typer.Option(
            min=2, max=10, help="With --from: only the results of the notebooks before this one."
        ),
    ] = 10,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Delete the runs of the course and restore its notebooks.

    Prints what it will delete, then asks. It deletes nothing outside FOLDER.
    """
    from p2r.workshop.reset import plan_reset
    from p2r.workshop.reset import reset as apply_reset

    if keep_runs and (run or prebuilt):
        raise UserError("--keep-runs deletes no run: leave out --run and --from")
    plan = plan_reset(
        folder,
        runs=[] if keep_runs else run,
        notebooks=not keep_notebooks,
        prebuilt=prebuilt,
        start_at=start_at,
    )
    lines = plan.describe()
    if dry_run:
        print_dry_run(lines)
        return
    if not lines:
        print(f"nothing to reset in {plan.root}")
        return
    print(f"In {plan.root}:", *lines, sep="\n  ")
    if not (yes or typer.confirm("Do this?")):
        print("nothing was changed")
        raise typer.Exit(1)
    apply_reset(plan)
    print("done")


@workshop_app.command(epilog="Example: p2r workshop bundle build/p2r-workshop")
def bundle(
    target: Annotated[Path, typer.Argument(metavar="[TARGET]", help="The folder to write.")] = Path(
        "build/p2r-workshop"
    ),
    project: Annotated[
        Path, typer.Option(help="The folder of the project, with notebooks/.")
    ] = Path("."),
    run: Annotated[
        Path | None,
        typer.Option(
            help="Finished run to add. Missing stages are made first, which takes minutes. "
            "Default: runs/workshop of the project."
        ),
    ] = None,
    scale: Annotated[str, typer.Option(help="Scale of the run: tiny or quick.")] = "tiny",
    wheels: Annotated[
        bool, typer.Option("--wheels/--no-wheels", help="Add a wheel of each installed package.")
    ] = True,
    dry_run: DryRunOption = False,
) -> None:
    """Write a folder for a course without network: project, models, wheels and a finished run.

    The wheels are made from the installed packages, so they fit this kind of machine and this
    version of Python. Call the command again to continue.
    """
    from p2r.workshop.bundle import finish_run, project_files, write_bundle
    from p2r.workshop.reset import RUN

    if dry_run:
        print_dry_run([f"{len(project_files(project))} files of {project.resolve()} to {target}"])
        return
    write_bundle(project, target, finish_run(run or project / RUN, scale), wheels=wheels)
