"""The command line: one verb per stage, thin over `p2r.stages`.

A user's error is one line, `error: …`, and exit code 2; Ctrl-C is 130. P2R_DEBUG=1 shows where it
came from. Heavy libraries are imported where they are used, so that `p2r --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys

import typer

# Each module registers its verbs, in the order of `p2r --help`.
# isort: off
from p2r.cli import browse, factory, data, serve, train, evaluate, doctor  # noqa: F401
from p2r.cli.options import app

# isort: on
from p2r.files.safe_text import show_unseen


def main() -> None:
    """The entry point: runs the verb and turns errors into one line and an exit code."""
    sys.exit(run_cli())


def run_cli(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0, 1 (a check failed), 2 (an error) or 130 (Ctrl-C)."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Visible("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    try:
        code = app(arguments, prog_name="p2r", standalone_mode=False) or 0
    except (typer.TyperException, ValueError, OSError) as error:
        if os.environ.get("P2R_DEBUG") == "1" and not isinstance(error, typer.TyperException):
            raise
        message = " ".join(_describe(error).split())
        print(f"error: {show_unseen(message)}", file=sys.stderr)
        return 2
    if code == 130:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
    return code


class _Visible(logging.Formatter):
    """Log lines in which names and texts of strangers cannot steer the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return show_unseen(super().format(record))


def _describe(error: Exception) -> str:
    if isinstance(error, typer.TyperException):
        return f"{error.format_message().rstrip('.')} (see p2r --help)"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
