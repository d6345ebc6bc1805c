"""The commands `p2r demo`, `p2r app` and `p2r ask`."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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

    Base, SFT, GRPO and PA-GRPO are compared on held-out scenes. If the command is killed, run it
    again to continue. With P2R_NO_APP=1, it ends after the results.
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
        typer.Option(help="Media folder of all runs. Default: the media folder of each run."),
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
    dry_run: DryRunOption = False,
) -> None:
    """Browse the cases of one or more runs.

    Without --host, only this machine can open the browser.
    """
    for folder in runs:
        if not folder.exists():
            raise UserError(f"run {folder} does not exist: pass the folder of a run")
    if media_root is not None and not media_root.is_dir():
        raise UserError(f"media root {media_root} is not a folder")
    if dry_run:
        from p2r.browser.exposure import check_host, check_root_path

        check_host(host, os.environ.get("P2R_APP_PASSWORD"))
        store = _open_store(runs)
        address = (
            f"http://{host}:{port or 'the first free port from 7860'}{check_root_path(root_path)}"
        )
        print_dry_run([f"{store.count()} cases of {len(runs)} run(s) at {address}"])
        store.close()
        return
    open_browser(runs, media_root, port, host, root_path)


@app.command(
    epilog='Example: p2r ask clip.mp4 "Which way does the ball move?" '
    '--option "A. left" --option "B. right"',
)
def ask(
    video: Annotated[Path, typer.Argument(help="A video or an image.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    model: Annotated[
        str, typer.Option(help="Model folder, hub id or playground/NAME.")
    ] = "playground/teacher",
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
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Answer a question about a clip. The answer is printed while the model writes it."""
    from p2r.engines.ask import ask_model, preview_ask
    from p2r.runs.recipe import load_recipe

    resolved = load_recipe(recipe or "tiny", set)
    if dry_run:
        print_dry_run(preview_ask(resolved, model, video, question, option or [], type))
        return
    for piece in ask_model(resolved, model, video, question, option or [], type):
        print(piece, end="", flush=True)
    print()


def open_browser(
    runs: list[Path],
    media_root: Path | None = None,
    port: int | None = None,
    host: str = "127.0.0.1",
    root_path: str = "",
) -> None:
    """Serve the case browser. The runs are opened while its libraries are imported."""
    _share_memory()
    gc.disable()  # the start makes almost no garbage, and collecting it takes time
    with ThreadPoolExecutor(1) as background:
        store = background.submit(_open_store, runs)
        try:
            from p2r.browser.app import launch
        except ImportError as error:
            missing = f"needs {error.name}" if error.name else f"does not start ({error})"
            raise UserError(
                f"the case browser {missing}: install it with pip install -e '.[app]'"
            ) from error
        opened = store.result()
    gc.freeze()
    gc.enable()
    password = os.environ.get("P2R_APP_PASSWORD")
    launch(opened, media_root, host, port, password=password, root_path=root_path)


def _share_memory() -> None:
    """Limit glibc to two memory arenas, which saves a quarter of the memory.

    By default there are up to sixteen, and each keeps the memory that it once needed.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


def _open_store(runs: list[Path]) -> CaseStore:
    from p2r.cases.store import CaseStore

    return CaseStore(runs)
