"""Prepares the OS process of the command line: a home folder, and output in any encoding."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from p2r.files.bars import calm_bars


def prepare_surroundings() -> None:
    """Give the command line what its libraries expect of a user and a terminal."""
    make_output_lenient()
    calm_bars()
    give_home()


def make_output_lenient() -> None:
    """Write characters that the terminal's encoding does not have as escapes, such as `\\u2192`.

    Otherwise a command fails at such a character, after its work is done.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def give_home() -> None:
    """Set HOME and USER if the user has no entry in the user database and no usable HOME.

    This is usual in containers (`docker run --user 1234`). Libraries fail without a home folder.
    """
    try:
        import pwd
    except ImportError:  # Windows, where every user has a home folder
        return
    user = os.getuid()
    try:
        pwd.getpwuid(user)
        return
    except KeyError:
        os.environ.setdefault("USER", f"user{user}")
    home = os.environ.get("HOME", "")
    if home and os.access(home, os.W_OK):
        return
    folder = Path(tempfile.gettempdir()) / f"p2r-home-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != user:  # somebody else made it
        folder = Path(tempfile.mkdtemp(prefix=f"p2r-home-{user}-"))
    os.environ["HOME"] = str(folder)
    print(
        f"user {user} has no home folder: caches and the ledger of judge calls go to {folder} "
        "(set HOME to another folder to keep them)",
        file=sys.stderr,
    )
