"""The run journal: an append-only file of JSON lines. No record is lost or made twice.

Each line is `{"key": …, "record": …}`. The key names a piece of work, for example a question and a
sample. A stage can be killed at any moment: when it starts again, it skips the keys in the journal.

Several machines write a journal in several files, one file per machine: `generate.jsonl`,
`generate.shard-2of8.jsonl`, … `MergedJournal` reads all of them as one.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import re
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, lock_descriptor, unlock_descriptor

from p2r.errors import StoreError
from p2r.files.jsonlines import from_line, to_line

log = logging.getLogger(__name__)

_TAIL = 1 << 16
_BUFFER = 2**16  # bytes; four times as fast as the default buffer
_HEAD = re.compile(rb'\{"key": ("(?:[^"\\]|\\.)*"), "record": \{')


@dataclass(frozen=True)
class Shard:
    """One machine's part of a stage's work: part `index` of `count`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "i/n", with i from 0 or from 1, as in a Slurm array: "4/4" is "0/4".

        Raises ValueError.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise ValueError(f"shard {text!r} must have the form i/n, for example 0/4")
        if not int(index) <= int(count) or not 0 < int(count) <= 100_000:
            raise ValueError(f"shard {text!r}: i goes from 0 to n-1 (or from 1 to n)")
        return cls(int(index) % int(count), int(count))

    def owns(self, key: str) -> bool:
        """Return whether a piece of work belongs to this part; equal on every machine."""
        return zlib.crc32(key.encode("utf-8", "surrogatepass")) % self.count == self.index

    def path_of(self, path: Path) -> Path:
        """Return this part's file of a journal."""
        return path.with_name(f"{path.stem}.shard-{self.index}of{self.count}{path.suffix}")


class Journal:
    """The only writer of a journal file; it holds at most one record per key.

    Opening creates the file and locks it, so that a second writer is refused. If an earlier writer
    was killed in the middle of a line, the unfinished line is removed. Then the keys are read.
    `append` returns when the record is on disk.

    Raises `StoreError` for a locked file, a damaged line or a repeated key.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._thread_lock = threading.Lock()
        try:
            if not lock_descriptor(self._descriptor, blocking=False):
                raise StoreError(
                    f"another program is writing {self.path}: wait for it or stop it, then start "
                    "again"
                )
            self._size = cut_torn_line(self._descriptor, self.path)
            self._keys = _index(self.path, self._size)
        except BaseException:
            os.close(self._descriptor)
            raise
        _close_after_fork(self)

    def append(self, key: str, record: dict[str, Any]) -> None:
        """Write one record and wait until it is on disk."""
        self.append_many([(key, record)])

    def append_many(self, items: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Write several records with one wait for the disk; check all of them first."""
        with self._thread_lock:
            lines: dict[str, bytes] = {}
            for key, record in items:
                if key in self._keys or key in lines:
                    raise StoreError(f"{self.path}: key {key!r} is already in the journal")
                lines[key] = _encode(self.path, key, record)
            if self._descriptor < 0:
                raise StoreError(f"{self.path} is closed: open it again to append")
            offset = self._size
            self._size = append_whole(self._descriptor, b"".join(lines.values()), offset)
            for key, line in lines.items():
                self._keys[key] = offset
                offset += len(line)

    def keys(self) -> set[str]:
        """Return the keys of all records: the work that is done."""
        return set(self._keys)

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the key and the record of every line, in the order of writing."""
        return ((key, record) for key, _, record in _read(self.path, self._size))

    def close(self) -> None:
        """Release the lock; a second call does nothing."""
        if self._descriptor >= 0:
            unlock_descriptor(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MergedJournal:
    """All files of a journal, read as one; needs no lock and works while others write.

    If a key is in several files, because two machines did the same work, the first record counts.
    Only the keys are in memory, not the records.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.files = journal_files(self.path)
        self._open: dict[int, Any] = {}

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """Return the file and the offset of every key; they are read at the first use."""
        places: dict[str, tuple[int, int]] = {}
        for number, file in enumerate(self.files):
            for key, offset in _index(file, file.stat().st_size).items():
                places.setdefault(key, (number, offset))
        return places

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the record of a key, or None."""
        if key not in self._places:
            return None
        number, offset = self._places[key]
        if number not in self._open:
            self._open[number] = self.files[number].open("rb")
        file = self._open[number]
        file.seek(offset)
        return _decode(self.files[number], f"byte {offset}", file.readline())[1]

    def keys(self) -> Iterator[str]:
        """Return every key once."""
        return iter(self._places)

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield every key with its record, file by file, in the order of writing."""
        for number, file in enumerate(self.files):
            for key, offset, record in _read(file, file.stat().st_size):
                if len(self.files) == 1 or self._places.get(key) == (number, offset):
                    yield key, record

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        while self._open:
            self._open.popitem()[1].close()

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def journal_files(path: str | Path) -> list[Path]:
    """Return the existing files of a journal: its main file, then those of its shards."""
    path = Path(path)
    shards = path.parent.glob(f"{glob.escape(path.stem)}.shard-*of*{glob.escape(path.suffix)}")
    name = re.compile(rf"{re.escape(path.stem)}\.shard-\d+of\d+{re.escape(path.suffix)}")
    found = [path] if path.is_file() else []
    return found + sorted(file for file in shards if name.fullmatch(file.name))


def read_journal(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the key and the record of every complete line; works while a program writes.

    Raises `StoreError` for a missing file or a damaged line.
    """
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"no journal at {path}: run the stage that writes it first")
    return ((key, record) for key, _, record in _read(path, path.stat().st_size))


def count_lines(path: Path) -> int:
    """Count the complete lines of a file, reading it in pieces."""
    with path.open("rb", buffering=0) as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


@contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """Run the block in one OS process at a time; the others wait. `path` is the lock file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def append_whole(descriptor: int, data: bytes, size: int) -> int:
    """Append data to a file of `size` bytes, wait until it is on disk, and return the new size.

    If a write fails, as on a full disk, the file keeps none of the data.
    """
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, size)
        raise
    return size + len(data)


def cut_torn_line(descriptor: int, path: Path) -> int:
    """Cut a file after its last complete line, and return its size. Reads only the file's end."""
    whole = end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - _TAIL)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        end = start + found + 1
        if found >= 0:
            break
    if end < whole:
        log.warning(
            "%s: removed the unfinished last line of a killed writer (%d bytes)", path, whole - end
        )
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    return end


def _index(path: Path, size: int) -> dict[str, int]:
    """Return the keys and their offsets; raise for a repeated key.

    For speed, only the key of a line is decoded if the line looks complete. A fault inside the
    record is found when the record is read.
    """
    keys: dict[str, int] = {}
    for number, offset, line in _lines(path, size):
        match = _HEAD.match(line)
        if match and line.endswith(b"}}\n"):
            key = json.loads(match[1])
        else:
            key, _ = _decode(path, f"line {number}", line)
        if key in keys:
            raise StoreError(
                f"{path}, line {number}: key {key!r} occurs a second time; remove one of the lines"
            )
        keys[key] = offset
    return keys


def _read(path: Path, size: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield key, offset and record of every complete line."""
    for number, offset, line in _lines(path, size):
        key, record = _decode(path, f"line {number}", line)
        yield key, offset, record


def _lines(path: Path, size: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield number, offset and content of every complete line."""
    position = 0
    with path.open("rb", buffering=_BUFFER) as lines:
        for number, line in enumerate(lines, start=1):
            offset, position = position, position + len(line)
            if position > size or not line.endswith(b"\n"):
                return
            yield number, offset, line


def _encode(path: Path, key: str, record: dict[str, Any]) -> bytes:
    try:
        line = to_line(record)
        if "NaN" in line or "Infinity" in line:  # in a text, or a number that JSON lacks
            json.dumps(record, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path}: record {key!r} cannot be written as JSON: {error}") from error
    return f'{{"key": {json.dumps(key)}, "record": {line[:-1]}}}\n'.encode("ascii")


def _decode(path: Path, place: str, line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        entry = from_line(line)
        key, record = entry["key"], entry["record"]
    except (ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise StoreError(
            f"{path}, {place} is damaged ({reason}); remove the line to do its work again"
        ) from error
    if not isinstance(key, str) or not isinstance(record, dict):
        raise StoreError(
            f"{path}, {place} is not a journal line: it needs a string key and a mapping as record"
        )
    return key, record


_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()
_hooked = False


def _close_after_fork(journal: Journal) -> None:
    """Close this journal in forked children.

    Otherwise a child that outlives a killed writer keeps the lock, and the stage cannot restart.
    """
    global _hooked
    _open_journals.add(journal)
    if not _hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_close_in_child)
        _hooked = True


def _close_in_child() -> None:
    for journal in list(_open_journals):
        if journal._descriptor >= 0:
            os.close(journal._descriptor)
            journal._descriptor = -1
