"""The run journal: an append-only file of JSON lines; nothing is lost and nothing is done twice.

Each line is `{"key": …, "record": …}` with a key that names the work done (say, question and
sample). Any stage can be killed at any moment and started again: it skips the keys the journal has.

Several machines write one journal in several files, one writer each: `generate.jsonl` and beside it
`generate.shard-2of8.jsonl`. `MergedJournal` reads them as one.
"""

from __future__ import annotations

import contextlib
import fcntl
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

from p2r.errors import StoreError
from p2r.files.jsonlines import from_line, to_line

log = logging.getLogger(__name__)


_TAIL = 1 << 16
_BUFFER = 2**16  # bytes; lines are read four times as fast as through the default buffer
_HEAD = re.compile(rb'\{"key": ("(?:[^"\\]|\\.)*"), "record": \{')


@dataclass(frozen=True)
class Shard:
    """The part of a stage's work that one of several machines does: part `index` of `count`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "i/n" as of a Slurm array, i from 0 or from 1: "4/4" is "0/4". Raises ValueError."""
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise ValueError(f"shard {text!r} is not of the form i/n, as in 0/4")
        if not int(index) <= int(count) or not 0 < int(count) <= 100_000:
            raise ValueError(f"shard {text!r}: i goes from 0 to n-1 (or from 1 to n)")
        return cls(int(index) % int(count), int(count))

    def owns(self, key: str) -> bool:
        """Whether a piece of work is this part's; the same on every machine."""
        return zlib.crc32(key.encode("utf-8", "surrogatepass")) % self.count == self.index

    def path_of(self, path: Path) -> Path:
        """This part's file of a journal."""
        return path.with_name(f"{path.stem}.shard-{self.index}of{self.count}{path.suffix}")


class Journal:
    """The one writer of a journal file, at most one record per key.

    Opening creates the file, takes its lock (a second writer is refused), cuts off a last line that
    a killed process left unfinished, and reads the keys. What is appended is on disk when the call
    returns.

    Raises `StoreError` for a locked file, a damaged line or a repeated key.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._thread_lock = threading.Lock()
        try:
            self._take_lock()
            self._size = self._cut_torn_line()
            self._keys = _index(self.path, self._size)
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
                    raise StoreError(f"{self.path}: key {key!r} is already in the journal")
                lines[key] = _encode(self.path, key, record)
            offset = self._size
            self._write(b"".join(lines.values()))
            for key, line in lines.items():
                self._keys[key] = offset
                offset += len(line)

    def keys(self) -> set[str]:
        """The keys of all records: the work that is done."""
        return set(self._keys)

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and record of every line, in the order they were written."""
        return ((key, record) for key, _, record in _read(self.path, self._size))

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
            raise StoreError(
                f"another process is writing {self.path}: wait for it or stop it, then start again"
            ) from None

    def _cut_torn_line(self) -> int:
        """Truncate the file after its last complete line; returns its size."""
        whole = os.fstat(self._descriptor).st_size
        size = _end_of_last_line(self._descriptor, whole)
        if size < whole:
            log.warning(
                "%s: cut off the unfinished last line of a killed process (%d bytes)",
                self.path,
                whole - size,
            )
            os.ftruncate(self._descriptor, size)
            os.fsync(self._descriptor)
        return size

    def _write(self, data: bytes) -> None:
        """All of the data or none of it: a write that fails (disk full) is taken back."""
        if self._descriptor < 0:
            raise StoreError(f"{self.path} is closed: open it again to append")
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


class MergedJournal:
    """All files of a journal as one, read without locks, also while others write.

    Of a key that stands in several files the first counts: two machines that were told to do the
    same work did it twice, and still there is one outcome. Holds keys, not records.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.files = journal_files(self.path)
        self._open: dict[int, Any] = {}

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        """File and offset of every key, read when first needed."""
        places: dict[str, tuple[int, int]] = {}
        for number, file in enumerate(self.files):
            for key, offset in _index(file, file.stat().st_size).items():
                places.setdefault(key, (number, offset))
        return places

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a key, None where there is none."""
        if key not in self._places:
            return None
        number, offset = self._places[key]
        if number not in self._open:
            self._open[number] = self.files[number].open("rb")
        file = self._open[number]
        file.seek(offset)
        return _decode(self.files[number], f"byte {offset}", file.readline())[1]

    def keys(self) -> Iterator[str]:
        """Every key once."""
        return iter(self._places)

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every key with its record, file by file, in the order they were written."""
        for number, file in enumerate(self.files):
            for key, offset, record in _read(file, file.stat().st_size):
                if len(self.files) == 1 or self._places.get(key) == (number, offset):
                    yield key, record

    def close(self) -> None:
        """Close the files; closing twice is harmless."""
        while self._open:
            self._open.popitem()[1].close()

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def journal_files(path: str | Path) -> list[Path]:
    """The files of a journal that are there: its own, then those of its shards."""
    path = Path(path)
    shards = path.parent.glob(f"{glob.escape(path.stem)}.shard-*of*{glob.escape(path.suffix)}")
    name = re.compile(rf"{re.escape(path.stem)}\.shard-\d+of\d+{re.escape(path.suffix)}")
    found = [path] if path.is_file() else []
    return found + sorted(file for file in shards if name.fullmatch(file.name))


def read_journal(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and record of every complete line, without the lock: also while a process writes.

    Raises `StoreError` for a file that is absent and for a damaged line.
    """
    path = Path(path)
    if not path.is_file():
        raise StoreError(f"no journal at {path}: run the stage that writes it first")
    return ((key, record) for key, _, record in _read(path, path.stat().st_size))


def count_lines(path: Path) -> int:
    """The complete lines of a file, read in pieces."""
    with path.open("rb", buffering=0) as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


@contextmanager
def exclusive(path: str | Path) -> Iterator[None]:
    """Let one process at a time do what is in the block; the others wait. `path`: a lock file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _end_of_last_line(descriptor: int, end: int) -> int:
    """The size of a file up to and with its last line feed; reads only its end."""
    while end > 0:
        start = max(0, end - _TAIL)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _index(path: Path, size: int) -> dict[str, int]:
    """Keys and their offsets; raises for a repeated key.

    Of a line that looks whole only the key is read: what is inside the record is read by who uses
    it.
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
                f"{path}, line {number}: key {key!r} a second time; remove one of them"
            )
        keys[key] = offset
    return keys


def _read(path: Path, size: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Key, offset and record of every complete line."""
    for number, offset, line in _lines(path, size):
        key, record = _decode(path, f"line {number}", line)
        yield key, offset, record


def _lines(path: Path, size: int) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset and content of every complete line."""
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
        if "NaN" in line or "Infinity" in line:  # in a text, or a number that JSON does not know
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
            f"{path}, {place} is no journal line: a string key and a mapping are expected"
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
