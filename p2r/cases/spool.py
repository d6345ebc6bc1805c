"""Arrays in temporary files, mapped into memory; each file is deleted with its array."""

from __future__ import annotations

import mmap
import tempfile
from typing import IO

import numpy as np


class Spool:
    """An array of 32-bit integers in a temporary file, written from its beginning or given a
    size.
    """

    def __init__(self, count: int = 0) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (lives with the array)
        self._file.truncate(4 * count)
        self._count = count
        self._map: mmap.mmap | None = None

    def write(self, values: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(values, np.int32).data)
        self._count += len(values)

    def array(self) -> np.ndarray:
        """All of it; nothing is written to the end any more."""
        if not self._count:
            return np.zeros(0, np.int32)
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 4 * self._count)
        return np.frombuffer(self._map, np.int32)

    def forget(self) -> None:
        """Take its pages from this process's memory; the system may keep them, and it reads them
        again.
        """
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)
