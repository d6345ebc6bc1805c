"""The run journal: an append-only file of JSON lines; nothing is lost and nothing is done twice.

Each line is `{"key": …, "record": …}` with a key that names the work done (say, question and
sample). Any stage can be killed at any moment and started again: it skips the keys the journal has.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

log = logging.getLogger(__name__)


class JournalError(ValueError):
    """A journal that cannot be used; the message says which file, where, and what to do."""


class Journal:
    """The one writer of a journal file, at most one record per key.

    Opening creates the file, takes its lock (a second writer is refused), cuts off a last line that
    a killed process left unfinished, and reads the keys. What is appended is on disk when the call
    returns.

    Raises `JournalError` for a locked file, a damaged line or a repeated key.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._thread_lock = threading.Lock()
        try:
            self._take_lock()
            self._size = self._cut_torn_line()
            self._keys = {key: None for key, _ in self.records()}
        except BaseException:
            os.close(self._descriptor)
            raise
        _OPEN.add(self)

    def append(self, key: str, record: dict[str, Any]) -> None:
        """Write one record and wait until it is on disk."""
        self.append_many([(key, record)])

    def append_many(self, items: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Write several records with one wait for the disk; all are checked before the first."""
        with self._thread_lock:
            lines: dict[str, bytes] = {}
            for key, record in items:
                if key in self._keys or key in lines:
                    raise JournalError(f"{self.path}: key {key!r} is already in the journal")
                lines[key] = _encode(self.path, key, record)
            self._write(b"".join(lines.values()))
            self._keys.update(dict.fromkeys(lines))

    def keys(self) -> set[str]:
        """The keys of all records: the work that is done."""
        return set(self._keys)

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and record of every line, in the order they were written."""
        return _read(self.path, self._size)

    def close(self) -> None:
        """Release the lock; closing twice is harmless."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(
                f"another process is writing {self.path}: wait for it or stop it, then start again"
            ) from None

    def _cut_torn_line(self) -> int:
        """Truncate the file after its last complete line; returns its size."""
        content = self.path.read_bytes()
        size = content.rfind(b"\n") + 1
        if size < len(content):
            log.warning(
                "%s: cut off the unfinished last line of a killed process (%d bytes)",
                self.path,
                len(content) - size,
            )
            os.ftruncate(self._descriptor, size)
            os.fsync(self._descriptor)
        return size

    def _write(self, data: bytes) -> None:
        """All of the data or none of it: a write that fails (disk full) is taken back."""
        if self._descriptor < 0:
            raise JournalError(f"{self.path} is closed: open it again to append")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)


def read_journal(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and record of every complete line, without the lock: also while a process writes.

    Raises `JournalError` for a file that is absent, a damaged line or a repeated key.
    """
    path = Path(path)
    if not path.is_file():
        raise JournalError(f"no journal at {path}: run the stage that writes it first")
    return _read(path, path.stat().st_size)


def _read(path: Path, size: int) -> Iterator[tuple[str, dict[str, Any]]]:
    seen: set[str] = set()
    position = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            position += len(line)
            if position > size or not line.endswith(b"\n"):
                return
            key, record = _decode(path, number, line)
            if key in seen:
                raise JournalError(
                    f"{path}, line {number}: key {key!r} a second time; remove one of them"
                )
            seen.add(key)
            yield key, record


def _encode(path: Path, key: str, record: dict[str, Any]) -> bytes:
    try:
        # ASCII only, so that any string a model may write (lone surrogates too) survives.
        line = json.dumps({"key": key, "record": record}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise JournalError(f"{path}: record {key!r} cannot be written as JSON: {error}") from error
    return line.encode() + b"\n"


def _decode(path: Path, number: int, line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        entry = json.loads(line)
        key, record = entry["key"], entry["record"]
    except (ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise JournalError(
            f"{path}, line {number} is damaged ({reason}); remove the line to do its work again"
        ) from error
    if not isinstance(key, str) or not isinstance(record, dict):
        raise JournalError(
            f"{path}, line {number} is no journal line: a string key and a mapping are expected"
        )
    return key, record


_OPEN: weakref.WeakSet[Journal] = weakref.WeakSet()


def _close_in_child() -> None:
    # A forked worker that outlives a killed writer would otherwise keep the lock: no restart.
    for journal in list(_OPEN):
        if journal._descriptor >= 0:
            os.close(journal._descriptor)
            journal._descriptor = -1


os.register_at_fork(after_in_child=_close_in_child)
