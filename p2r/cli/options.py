"""Shared by all commands: the application, common options, opening a run."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from p2r.cli.complete import complete_recipes, complete_runs
from p2r.errors import UserError
from p2r.files.safe_text import show_unseen

if TYPE_CHECKING:
    from p2r.runs.backup import RecipeBackup

app = typer.Typer(
    name="p2r",
    help="VideoP2R workbench: from chain-of-thought data to PA-GRPO and case studies.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# The recipe of the run before the running command changed it; None if it opened no run.
BACKUP: ContextVar[RecipeBackup | None] = ContextVar("BACKUP", default=None)

RunOption = Annotated[
    Path,
    typer.Option(
        "--run",
        help="Run folder. Created if missing, resumed if it exists.",
        autocompletion=complete_runs,
    ),
]
OldRunOption = Annotated[
    Path,
    typer.Option("--run", help="Run folder. It must exist.", autocompletion=complete_runs),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        autocompletion=complete_recipes,
        help="tiny, 3b, 7b, qwen2.5-vl-7b-1x80gb …, or a YAML file; NAME+local-judge adds a "
        "preset. Default: the run's own, or tiny for a new run.",
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
        help="File of questions (Video-R1, VideoP2R or JSON lines). Default: the file that the run "
        "used before, or the playground's questions.",
    ),
]
RootOption = Annotated[
    Path | None,
    typer.Option(
        "--data-root", help="Folder of the media. Default: the run's, or the questions' folder."
    ),
]
MoveRootOption = Annotated[
    bool,
    typer.Option(
        "--move-data-root",
        help="Use --data-root as the new media folder of the run. Needed only if the old folder "
        "still exists.",
    ),
]

ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Only continue an interrupted stage, from its last checkpoint; an error if there is "
        "none. Without --resume, p2r also continues, or starts the stage if it is new.",
    ),
]


ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Do only part I of N, for example in a Slurm array (I from 0 or from 1). The parts "
        "are merged into the run.",
    ),
]
RayOption = Annotated[
    bool,
    typer.Option("--ray", help="Use a Ray cluster: RAY_ADDRESS, or a local one."),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check the settings and files and print the plan. Loads no model, writes nothing.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: Any) -> None:
    """Print a report as JSON, in one worker of `accelerate launch`."""
    from p2r.runs.software import is_main_worker

    if is_main_worker():
        print(json.dumps(value, indent=1, default=str))


def with_options(options: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that are fields of a dataclass.

    The command gets them as its first argument. Several commands can share one dataclass.
    """
    hints = get_type_hints(options, include_extras=True)
    names = [field.name for field in fields(options)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            command(options(**{name: values.pop(name) for name in names}), **values)

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        shared = inspect.signature(options).parameters
        listed = [*own, *(shared[name].replace(annotation=hints[name]) for name in names)]
        listed = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in listed]
        run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
        run.__annotations__ = {item.name: item.annotation for item in listed}
        return run

    return decorate


def parse_shard(text: str | None) -> Any:
    from p2r.files.journal import Shard

    return None if text is None else Shard.parse(text)


def open_run(
    run: Path,
    recipe: str | None,
    set: list[str] | None,
    must_exist: bool = False,
    dry_run: bool = False,
) -> Any:
    """Open a run. A dry run writes nothing into it."""
    from p2r.runs import open_run, preview_run
    from p2r.runs.backup import RecipeBackup
    from p2r.runs.folder import check_new_run

    if not must_exist:
        check_new_run(run)
    if dry_run:
        return preview_run(run, recipe, set or (), must_exist=must_exist)
    backup = RecipeBackup(run)
    opened = open_run(run, recipe, set or (), must_exist=must_exist)
    backup.note_change()
    BACKUP.set(backup)
    return opened


def print_dry_run(lines: Iterable[str]) -> None:
    """Print the plan of a dry run, in one worker of `accelerate launch`."""
    from p2r.runs.software import is_main_worker

    if is_main_worker():
        print(*map(show_unseen, lines), "dry run: nothing is started or written", sep="\n")


def move_data_root(run: Any, wanted: bool, data_root: Path | None, questions: Path | None) -> None:
    """Do what `--move-data-root` asks for."""
    if wanted:
        from p2r.stages.media_folder import move_data_root

        move_data_root(run, data_root, questions)


def check_begun(stage: Path) -> None:
    if not (stage / "made.json").is_file():
        raise UserError(f"{stage} has nothing to resume: run the command without --resume")


def collect(run: Any) -> None:
    from p2r.pipeline import collect_cases

    collect_cases(run)


def report_unanswered(path: Path, count: int) -> None:
    if count:
        print(
            f"{count} could not be answered: reasons in {path} (delete the file to retry)",
            file=sys.stderr,
        )


def print_plan(plan: Any) -> None:
    """Print the plan of `p2r.training.plan.plan_rl`: what RL does and how much memory it needs."""
    from p2r.cli.tables import make_console, memory_table
    from p2r.training.plan import describe_fit, describe_plan

    print(*describe_plan(plan), sep="\n")
    make_console().print(memory_table(plan))
    print(describe_fit(plan))
