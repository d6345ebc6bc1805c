"""The commands `p2r demo`, `p2r app` and `p2r ask`."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2r.cli.complete import complete_recipes
from p2r.cli.options import (
    DryRunOption,
    RecipeOption,
    RunOption,
    SetOption,
    app,
    open_run,
    print_dry_run,
)
from p2r.errors import UserError
from p2r.files.safe_text import show_pieces

if TYPE_CHECKING:
    from p2r.cases.store import CaseStore


@app.command(
    epilog="Example: p2r demo --run runs/demo",
)
def demo(
    run: RunOption = Path("runs/demo"),
    dry_run: DryRunOption = False,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Run every stage on one recipe, then browse the cases.

    The demo compares the base, the SFT model and the RL trainings of the recipe (`demo.arms`) on
    held-out scenes. The recipe `tiny` trains GRPO, PA-GRPO and grounded PA-GRPO. If the command is
    killed, run it again to continue. With P2R_NO_APP=1, it ends after the results.
    """
    opened = open_run(run, recipe, set, dry_run=dry_run)
    if dry_run:
        from p2r.stages.preview import preview_demo

        print_dry_run(preview_demo(opened))
        return

    from p2r.cli.tables import DemoReport, make_console
    from p2r.stages.demo import run_demo

    run_demo(opened, DemoReport(make_console()))
    if os.environ.get("P2R_NO_APP") != "1":
        open_browser([opened.folder])


@app.command(name="app", epilog="Example: p2r app runs/demo")
def browse(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Run folders, one or several.")
    ],
    media_root: Annotated[
        Path | None,
        typer.Option(
            "--media-root",
            "--data-root",
            help="Media folder of all runs. Default: the media folder of each run.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to serve on. If other machines can reach it, set a password in "
            "P2R_APP_PASSWORD; visitors sign in as p2r."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port. Default: the first free port from 7860."),
    ] = None,
    root_path: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Path below which a reverse proxy serves the browser, for example "
            "/user/jo/proxy/7860 with JupyterHub.",
        ),
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Host name under which a proxy serves the browser; * for any. Repeat for more.",
        ),
    ] = None,
    read_only: Annotated[
        bool,
        typer.Option("--read-only", help="Visitors can neither label nor ask. Needs no password."),
    ] = False,
    task: Annotated[
        Path | None,
        typer.Option(
            help="File with the cases to label: JSON lines with an id, as the page Labels and the "
            "export write them. Default: a sample of 200 cases."
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Do not serve: write chosen cases as a static site, which opens from disk.",
        ),
    ] = None,
    story: Annotated[
        Path | None,
        typer.Option(help="Story file whose cases --export writes. Default: instructive cases."),
    ] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(help="Id of a case that --export writes. Repeat for more cases."),
    ] = None,
    import_labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Do not serve: add the labels of a JSON export of Label Studio to the runs.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Browse the cases of one or more runs, or export them.

    Without --host, only this machine can open the browser.
    """
    for folder in runs:
        if not folder.exists():
            raise UserError(f"run {folder} does not exist: pass the folder of a run")
    if media_root is not None and not media_root.is_dir():
        raise UserError(f"media root {media_root} is not a folder")
    if (story is not None or case) and export is None:
        raise UserError("--story and --case choose what --export DIR writes: add --export")
    if story is not None and case:
        raise UserError("--story and --case both choose the cases: give one of them")
    given = {"--task": task, "--export": export, "--import-labels": import_labels}
    actions = [name for name, value in given.items() if value is not None]
    if len(actions) > 1:
        raise UserError(f"{' and '.join(actions)} do not go together: give one of them")
    if export is not None:
        said = _export(runs, media_root, export, story, case or [], dry_run)
    elif import_labels is not None:
        said = _import_labels(runs, import_labels, dry_run)
    else:
        options: dict[str, Any] = {
            "root_path": root_path,
            "read_only": read_only,
            "allow_hosts": allow_host or [],
            "task": [] if task is None else _read_task(task),
        }
        if not dry_run:
            open_browser(runs, media_root, port, host, **options)
            return
        said = _preview(runs, port, host, **options)
    if dry_run:
        print_dry_run([said])
    else:
        typer.echo(said)


def _preview(runs: list[Path], port: int | None, host: str, task: list[str], **options: Any) -> str:
    """Check what the browser would serve, and return it in one line."""
    from p2r.browser.exposure import check_host, check_root_path

    check_host(host, os.environ.get("P2R_APP_PASSWORD"), options["read_only"])
    path = check_root_path(options["root_path"])
    store = _open_store(runs)
    for case_id in task:
        store.run_of(case_id)
    labelled = f", {len(task)} of them to label," if task else ""
    where = f"http://{host}:{port or 'the first free port from 7860'}{path}"
    count = store.count()
    store.close()
    return f"{count} cases of {len(runs)} run(s){labelled} at {where}"


def _export(
    runs: list[Path],
    media_root: Path | None,
    folder: Path,
    story: Path | None,
    cases: list[str],
    dry_run: bool,
) -> str:
    """Write the site of a story, of cases, or of instructive cases; return what was done."""
    from p2r.browser.library import Library
    from p2r.browser.site import Story, check_export, choose_story, export_site, read_story

    told = Story("", [(case, "") for case in cases]) if story is None else read_story(story)
    library = Library(_open_store(runs), media_root, read_only=True)
    if story is None and not cases:
        told = choose_story(library)
    if dry_run:
        check_export(library, told, folder)
        return f"{len(told.items)} cases would be written into {folder}"
    count = export_site(library, told, folder)
    return f"{count} cases are in {folder}: open {folder / 'index.html'}"


def _import_labels(runs: list[Path], file: Path, dry_run: bool) -> str:
    """Add the labels of a Label Studio export to the runs of their cases."""
    from p2r.browser.exchange import read_label_studio
    from p2r.browser.library import Library

    try:
        labels = read_label_studio(file.read_text(encoding="utf-8"))
    except ValueError as error:  # also a file that is not text
        raise UserError(
            f"{file} is not an export of Label Studio: it needs JSON with tasks that have "
            "data.case and annotations"
        ) from error
    library = Library(_open_store(runs))
    known = library.labels()
    files = [(library.label_file(label.case), label) for label in labels]  # all, or none
    new = [(labels_of, label) for labels_of, label in files if label not in known]
    if dry_run:
        return f"{len(new)} labels of {file} would be added"
    for labels_of, label in new:
        labels_of.add(label)
    return f"{len(new)} labels were added"


def _read_task(file: Path) -> list[str]:
    """Return the ids of a task file, or of cases that were exported as JSON lines."""
    from p2r.records import Case

    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]
        ids = [row["id"] if "id" in row else Case.model_validate(row).id for row in rows]
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{file} is not a task: it needs JSON lines with the id of a case"
        ) from error
    if not ids:
        raise UserError(f"{file} has no case to label: it needs JSON lines with the id of a case")
    return ids


@app.command(
    epilog='Example: p2r ask clip.mp4 "Which way does the ball move?" '
    '--option "A. left" --option "B. right"',
)
def ask(
    video: Annotated[Path, typer.Argument(help="A video, an image, or a folder of videos.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    model: Annotated[
        str, typer.Option(help="Model folder, hub id or playground/NAME.")
    ] = "playground/second/teacher",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help='An option ("A. left"). Repeat for more options.'),
    ] = None,
    type: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="multiple choice, numerical, OCR, free-form or regression. Default: multiple "
            "choice with options, else free-form.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            autocompletion=complete_recipes,
            help="Recipe or YAML file with the settings of the engine, the frames and the prompt. "
            "Default: tiny.",
        ),
    ] = None,
    set: SetOption = None,
) -> None:
    """Answer a question about a clip. The answer is printed while the model writes it."""
    from p2r.engines.ask import ask_model, preview_ask
    from p2r.runs.recipe import load_recipe

    resolved = load_recipe(recipe or "tiny", set)
    if dry_run:
        print_dry_run(preview_ask(resolved, model, video, question, option or [], type))
        return
    for piece in show_pieces(ask_model(resolved, model, video, question, option or [], type)):
        print(piece, end="", flush=True)
    print()


def open_browser(
    runs: list[Path],
    media_root: Path | None = None,
    port: int | None = None,
    host: str = "127.0.0.1",
    **options: Any,
) -> None:
    """Serve the case browser. The runs are opened while its libraries are imported.

    `options` go to `p2r.browser.app.launch`.
    """
    from p2r.browser.exposure import check_host
    from p2r.browser.waiting import free_port, wait_on
    from p2r.patches import gradio_start

    password = os.environ.get("P2R_APP_PASSWORD")
    check_host(host, password, options.get("read_only", False))
    port = port or free_port()
    _share_memory()
    gc.disable()  # the start makes almost no garbage, and collecting it takes time
    with wait_on(host, port) as waiting, ThreadPoolExecutor(1) as background:
        waiting.say(f"opening {', '.join(str(run) for run in runs)}, loading the libraries")
        store = background.submit(_open_store, runs)
        gradio_start.apply()
        try:
            from p2r.browser.app import launch
        except ImportError as error:
            missing = f"needs {error.name}" if error.name else f"does not start ({error})"
            raise UserError(
                f"the case browser {missing}: install it with pip install -e '.[app]'"
            ) from error
        opened = store.result()
        waiting.say(f"{opened.count():,} cases are open, starting the server")
    gc.freeze()
    gc.enable()
    launch(opened, media_root, host, port, password=password, **options)


def _share_memory() -> None:
    """Limit glibc to two memory arenas, which saves a quarter of the memory.

    By default there are up to sixteen, and each keeps the memory that it once needed.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


def _open_store(runs: list[Path]) -> CaseStore:
    from p2r.cases.store import CaseStore

    return CaseStore(runs)
