"""The command line: one command per stage. The commands call `p2r.stages`.

An error of the user is printed as one line, `error: …`, with exit code 2. Ctrl-C gives exit code
130. P2R_DEBUG=1 shows the traceback. Each command imports heavy libraries only when it runs, so
that `p2r --help` is fast.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

import p2r

# Each module registers its verbs. The order of the modules is the order in `p2r --help`.
# isort: off
from p2r.cli import browse, pipeline, data, serve, export, train, study  # noqa: F401
from p2r.cli import evaluate, eval_outputs, plot, recipe, runs, workshop, doctor  # noqa: F401
from p2r.cli.options import BACKUP, app

# isort: on
from p2r.cli.parallel import ARGUMENTS
from p2r.cli.surroundings import prepare_surroundings
from p2r.files.own_process import claim_process
from p2r.files.safe_text import hide_keys, show_unseen

_DISK_FULL = ("No space left on device", "Disk quota exceeded", "os error 28")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"p2r {p2r.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and stop."
        ),
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line and exit with its exit code."""
    prepare_surroundings()
    claim_process()
    sys.exit(run_cli())


def run_cli(arguments: list[str] | None = None) -> int:
    """Run a command; return 0, 1 (a check failed), 2 (an error) or 130 (Ctrl-C)."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Visible("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    ARGUMENTS.set(sys.argv[1:] if arguments is None else arguments)
    BACKUP.set(None)
    try:
        code = app(arguments, prog_name="p2r", standalone_mode=False) or 0
    except Exception as error:
        known = isinstance(error, typer.TyperException | ValueError | OSError)
        if not known and not _is_disk_full(error):
            raise
        if (backup := BACKUP.get()) is not None:
            backup.restore()
        if os.environ.get("P2R_DEBUG") == "1" and not isinstance(error, typer.TyperException):
            raise
        description = _describe(error)
        if description.startswith("Usage: "):  # no verb was given: show the help as it is
            print(description, file=sys.stderr)
            return 2
        message = " ".join(description.split())
        print(f"error: {show_unseen(hide_keys(message))}", file=sys.stderr)
        return 2
    if code == 130:
        print("\nstopped; run the same command again to continue", file=sys.stderr)
    return code


class _Visible(logging.Formatter):
    """Makes untrusted names and texts in log lines safe to show in a terminal, without keys."""

    def format(self, record: logging.LogRecord) -> str:
        return show_unseen(hide_keys(super().format(record)))


def _describe(error: Exception) -> str:
    if isinstance(error, typer.TyperException):
        message = error.format_message()
        if message.startswith("Usage: "):
            return message
        return f"{message.rstrip('.')} (see p2r --help)"
    if _is_disk_full(error):
        path = getattr(error, "filename", None) or _path_in_use(error)
        return f"{path or 'a file'}: no space left on its disk: free some space and start again"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _is_disk_full(error: BaseException) -> bool:
    """Return whether a full disk or quota caused an error, in p2r or in a library."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if any(sign in str(error) for sign in _DISK_FULL):
        return True
    inner = error.__cause__ or error.__context__
    return inner is not None and _is_disk_full(inner)


def _path_in_use(error: BaseException) -> str | None:
    """Return the file that was being written when an error was raised; errors rarely name it.

    It is an open file or a path in the innermost functions that have one.
    """
    places = list(traceback.walk_tb(error.__traceback__))
    for kinds in ((io.IOBase,), (Path,)):
        for frame, _ in reversed(places):
            for value in frame.f_locals.values():
                if isinstance(value, kinds):
                    name = getattr(value, "name", None) if kinds == (io.IOBase,) else value
                    if isinstance(name, str | Path):
                        return str(name)
    return None
