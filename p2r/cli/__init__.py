"""The command line: one verb per stage. The verbs call `p2r.stages`.

An error of the user is printed as one line, `error: …`, with exit code 2. Ctrl-C gives exit code
130. P2R_DEBUG=1 shows the traceback. Each verb imports heavy libraries only when it runs, so that
`p2r --help` is fast.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

import p2r

# Each module registers its verbs. The order of the modules is the order in `p2r --help`.
# isort: off
from p2r.cli import browse, pipeline, data, serve, train, evaluate, plot, doctor  # noqa: F401
from p2r.cli.options import app

# isort: on
from p2r.files.safe_text import show_unseen


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
    sys.exit(run_cli())


def run_cli(arguments: list[str] | None = None) -> int:
    """Run a verb; return 0, 1 (a check failed), 2 (an error) or 130 (Ctrl-C)."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Visible("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    try:
        code = app(arguments, prog_name="p2r", standalone_mode=False) or 0
    except (typer.TyperException, ValueError, OSError) as error:
        if os.environ.get("P2R_DEBUG") == "1" and not isinstance(error, typer.TyperException):
            raise
        description = _describe(error)
        if description.startswith("Usage: "):  # no verb was given: show the help as it is
            print(description, file=sys.stderr)
            return 2
        message = " ".join(description.split())
        print(f"error: {show_unseen(message)}", file=sys.stderr)
        return 2
    if code == 130:
        print("\nstopped; run the same command again to continue", file=sys.stderr)
    return code


class _Visible(logging.Formatter):
    """Makes untrusted names and texts in log lines safe to show in a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return show_unseen(super().format(record))


def _describe(error: Exception) -> str:
    if isinstance(error, typer.TyperException):
        message = error.format_message()
        if message.startswith("Usage: "):
            return message
        return f"{message.rstrip('.')} (see p2r --help)"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
