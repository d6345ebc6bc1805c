"""Progress bars that fit where they are written: a terminal, or the log file of a job."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LOG_SECONDS = "30"  # from one state of a bar to the next in a log file
_LINE = "TQDM_POSITION"


def _in_terminal() -> bool:
    """Return whether progress bars are written to a terminal."""
    return sys.stderr.isatty()


def calm_bars() -> None:
    """Let bars write rarely if they go to a file. Call this before tqdm is imported."""
    if not _in_terminal():
        for name in ("TQDM_MININTERVAL", "TQDM_MAXINTERVAL"):
            os.environ.setdefault(name, LOG_SECONDS)


def line_of(place: int) -> dict[str, str]:
    """Return the variable that gives the bars of one of several workers a line of their own.

    In a log file, the bars of all workers follow each other.
    """
    return {_LINE: str(place)} if _in_terminal() else {}


@contextmanager
def on_line(place: int) -> Iterator[None]:
    """Start a subprocess inside the block: its bars have the line `place` of the terminal."""
    kept = os.environ.get(_LINE)
    os.environ.update(line_of(place))
    try:
        yield
    finally:
        if kept is None:
            os.environ.pop(_LINE, None)
        else:
            os.environ[_LINE] = kept
