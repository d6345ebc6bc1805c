"""Write files whole: a reader sees the old file or the new one, never half of it.

The data goes to a draft beside the target and is flushed to disk. Then the draft replaces the
target. If the writer fails, the target stays as it was and the draft is removed.
"""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

from p2r.errors import UserError

_BUFFER = 2**17  # bytes; lines of cases are long


@contextmanager
def draft_of(path: str | os.PathLike[str], *, sync: bool = True) -> Iterator[Path]:
    """Yield the path of a draft that replaces `path` when the block succeeds.

    For libraries that write to a path. Processes and threads have separate drafts. `sync=False`
    skips the wait for the disk: only for caches, whose readers notice a damaged file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield draft
        if sync:
            with draft.open("r+b") as file:
                os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def replacing(
    path: str | os.PathLike[str], mode: str = "w", *, sync: bool = True
) -> Iterator[IO[Any]]:
    """Open a file that replaces `path` when the block succeeds.

    `mode`: "w" for UTF-8 text, "wb" for bytes. Line feeds stay as they are written. A name that
    ends in `.gz` is compressed.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode must be 'w' or 'wb', not {mode!r}")
    with draft_of(path, sync=sync) as draft, ExitStack() as opened:
        file: Any = opened.enter_context(draft.open("wb", buffering=_BUFFER))
        if Path(path).suffix == ".gz":
            # Level 6 is nearly as small as 9, the default, in half the time. Without a file name
            # and a time in its head, equal data gives equal files.
            file = opened.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
        if mode == "w":
            file = opened.enter_context(TextIOWrapper(file, encoding="utf-8", newline=""))
        yield file


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole."""
    with replacing(path) as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a JSON file whole."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file that p2r wrote; raises `UserError` if it is missing or damaged."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {path}: run the stage that writes it first") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete it to make it again") from error
