"""A folder of cached files that several OS processes share, with a limit on its size.

A cache holds only what can be computed again. So a damaged file counts as missing, and a full disk
makes a run slower but does not stop it. The least recently used files are deleted first.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

from filelock import FileLock, Timeout

from p2r.errors import StoreError
from p2r.files.atomic import replacing

log = logging.getLogger(__name__)
T = TypeVar("T")

LOCKS = 64  # lock files per folder; keys share them
ROOM = 0.9  # share of the limit that is kept when files are deleted
# A cached file, or the draft of one.
_NAME = re.compile(r"\.?[0-9a-f]{32}(?P<suffix>\.[a-z]+)(?P<draft>(?:\.\d+)*)")
ABANDONED = 24 * 3600  # seconds after which the draft of a killed program is deleted


def cache_folder() -> Path:
    """Return the folder of all caches: P2R_CACHE, or `p2r` in the user's cache folder."""
    if folder := os.environ.get("P2R_CACHE"):
        return Path(folder)
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:  # the user has no home folder
        raise StoreError(
            "p2r has no place for its caches, because your user has no home folder: set P2R_CACHE "
            "to a folder"
        ) from error
    return cache / "p2r"


class DiskCache:
    """Files by key in one folder. Threads and OS processes may share the folder.

    `max_bytes` limits the size of all files together (None: no limit). Each time this object has
    written a twentieth of the limit, it checks the size.
    """

    def __init__(
        self, folder: str | os.PathLike[str], suffix: str, max_bytes: int | None = None
    ) -> None:
        self.folder, self.suffix, self.max_bytes = Path(folder), suffix, max_bytes
        self._unchecked: float | None = None  # bytes written since the last check of the limit

    def path(self, key: str) -> Path:
        """Return the file of a key."""
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self.folder / f"{name}{self.suffix}"

    def read(self, key: str, load: Callable[[Path], T]) -> T | None:
        """Return what `load` reads from the file of a key; None if it is missing or damaged."""
        path = self.path(key)
        try:
            found = load(path)
        except FileNotFoundError:
            return None
        except Exception as error:  # libraries raise many types for a damaged file
            log.info("the cached file %s is damaged, so it is made again: %s", path, error)
            return None
        with suppress(OSError):
            os.utime(path)  # the time of the last use
        return found

    def write(self, key: str, save: Callable[[IO[bytes]], object]) -> None:
        """Let `save` write the file of a key; readers see the whole file or none."""
        path = self.path(key)
        try:
            with replacing(path, "wb", sync=False) as file:
                save(file)
            size = path.stat().st_size
        except OSError as error:
            log.warning("cannot write to the cache %s, going on without it: %s", self.folder, error)
            return
        if self.max_bytes is None:
            return
        if self._unchecked is not None:
            self._unchecked += size
        if self._unchecked is None or self._unchecked > self.max_bytes * (1 - ROOM) / 2:
            self._unchecked = 0.0
            self._delete_oldest(self.max_bytes)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Let one OS process at a time run the block for a key. Some keys share a lock."""
        number = int(self.path(key).name[:8], 16) % LOCKS
        lock = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / f".lock-{number}")
            lock.acquire()
        except (OSError, NotImplementedError) as error:  # some network disks do not support locks
            log.info("%s does not support locks: %s", self.folder, error)
            lock = None
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _delete_oldest(self, max_bytes: int) -> None:
        """Delete the least recently used files if the total size is over the limit."""
        try:
            with FileLock(self.folder / ".lock-limit", timeout=0):
                files = list(self._files())
                size = sum(each for _, each, _ in files)
                if size <= max_bytes:
                    return
                for _, each, path in sorted(files):
                    if size <= ROOM * max_bytes:
                        return
                    with suppress(PermissionError):  # a file of another user
                        path.unlink(missing_ok=True)
                        size -= each
        except (Timeout, OSError, NotImplementedError):
            return  # another OS process is deleting files, or the disk does not support locks

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield time of the last use, size and path of every cached file."""
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                found = entry.stat()
                name = _NAME.fullmatch(entry.name)
                if name is None or name["suffix"] != self.suffix:
                    continue  # not of this cache
                if not name["draft"]:
                    yield found.st_mtime, found.st_size, Path(entry.path)
                elif time.time() - found.st_mtime > ABANDONED:
                    Path(entry.path).unlink(missing_ok=True)
