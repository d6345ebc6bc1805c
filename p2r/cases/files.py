"""Reads and writes the files of a run that hold cases, also while a stage is writing them.

    cases.parquet              the cases of all stages, rebuilt at the end of each
    cases/*.jsonl              the scored cases of one stage each
    generate.jsonl, eval/*.jsonl, */rollouts.jsonl   what a stage writes while it runs

A file is read as far as possible. A part that cannot be read is reported with its reason and left
out. Only `write_cases` writes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from p2r.errors import StoreError
from p2r.files.atomic import draft_of
from p2r.records import ROW_TYPES, Case

FILE_NAME = "cases.parquet"
_ARROW = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
CASE_SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in ROW_TYPES.items()])
_BATCH, _GROUP = 1024, 2048
_LINES = 2048
_FAULTS = 20
_FIRST, _LAST = 2**16, 1024  # bytes of a fingerprint
_LEAST, _MOST = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class CaseFault:
    """A part of a file that cannot be read, and the reason."""

    path: Path
    reason: str


@dataclass
class CaseFile:
    """A file with cases, and how far it was read."""

    path: Path
    run: Path
    identity: tuple[int, ...] = ()
    read_to: int = 0
    lines: int = 0
    fingerprint: bytes = b""
    faults: list[CaseFault] = field(default_factory=list)

    @property
    def is_parquet(self) -> bool:
        return self.path.suffix == ".parquet"

    def fault(self, reason: str) -> None:
        """Record an unreadable part, each once. Of many, only the first are kept."""
        fault = CaseFault(self.path, " ".join(reason.split()))
        if fault in self.faults:
            return
        if len(self.faults) < _FAULTS:
            self.faults.append(fault)
        elif len(self.faults) == _FAULTS:
            self.faults.append(CaseFault(self.path, "more parts cannot be read"))


def case_file(path: str | Path) -> Path:
    """Return the Parquet file of a run folder; a Parquet file is returned as it is."""
    path = Path(path)
    return path if path.suffix == ".parquet" else path / FILE_NAME


def write_cases(path: str | Path, cases: Iterable[Case]) -> Path:
    """Write cases to a Parquet file (or into a run folder) and return the path of the file.

    The cases are streamed. The file replaces an older one only when it is complete. NaN becomes
    NULL (unknown). Raises `StoreError` for an id that comes twice.
    """
    target = case_file(path)
    with draft_of(target) as draft:
        write_rows(draft, _checked_rows(target, cases))
    return target


def write_rows(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Write rows to a Parquet file, with one row group in memory at a time."""
    with pq.ParquetWriter(path, CASE_SCHEMA, compression="zstd") as writer:
        while group := list(itertools.islice(rows, _GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=CASE_SCHEMA))


def _checked_rows(target: Path, cases: Iterable[Case]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for case in cases:
        row = storable_row(case)
        if row["id"] in seen:
            raise StoreError(
                f"{target}: case {row['id']!r} comes twice: give its rollouts different numbers"
            )
        seen.add(row["id"])
        yield row


def find_case_files(path: str | Path) -> list[Path]:
    """Return the files of a run that hold cases. If two hold the same case, the first counts.

    A scored file that is older than the run's Parquet file is left out, because the Parquet file
    already contains its cases.
    """
    parquet = case_file(path).resolve()
    found = [parquet] if parquet.is_file() else []
    if Path(path).suffix == ".parquet":
        return found
    run = parquet.parent
    collected = parquet.stat().st_mtime_ns if found and _opens(parquet) else -1
    scored = [file for file in _files(run, "cases/*.jsonl") if _time(file) > collected]
    live = [*_files(run, "generate.jsonl"), *_files(run, "eval/*.jsonl")]
    live = [file for file in live if not file.name.endswith(".errors.jsonl")]
    return [*found, *scored, *live, *_files(run, "*/rollouts.jsonl")]


def _files(run: Path, pattern: str) -> list[Path]:
    """Return the files below a run that match. Links that leave the run are not followed."""
    found = (path for path in sorted(run.glob(pattern)) if path.is_file())
    return [path for path in found if run in path.resolve().parents]


def _opens(parquet: Path) -> bool:
    try:
        pq.read_schema(parquet)
    except (OSError, ValueError, pa.ArrowException):
        return False
    return True


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1


def identify(path: Path) -> tuple[int, ...]:
    """Return a mark that changes when a file is replaced. A file that grows keeps its mark."""
    try:
        status = path.stat()
    except OSError:
        return ()
    fixed = (status.st_dev, status.st_ino)
    return (*fixed, status.st_size, status.st_mtime_ns) if path.suffix == ".parquet" else fixed


def fingerprint_of(lines: IO[bytes], read_to: int) -> bytes:
    """Return a digest of the first line and of the last bytes before a place of an open file.

    The digest changes if the file is overwritten, even if the new file has the same inode.
    """
    lines.seek(0)
    first = lines.readline(min(read_to, _FIRST))
    lines.seek(max(0, read_to - _LAST))
    return hashlib.sha256(first + lines.read(min(read_to, _LAST))).digest()


def was_rewritten(file: CaseFile) -> bool:
    """Return whether the part of a JSON lines file that was read was overwritten or removed."""
    try:
        with file.path.open("rb") as lines:
            return bool(file.read_to) and fingerprint_of(lines, file.read_to) != file.fingerprint
    except OSError:
        return True


# ---- Parquet


def read_groups(file: CaseFile, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (row number of the first row, batch). A damaged row group becomes a fault.

    A column that the file does not have is missing from the batches.
    """
    with pq.ParquetFile(file.path) as parquet:
        names = set(parquet.schema_arrow.names)
        wanted = [name for name in columns if name in names]
        first = 0
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            try:
                at = first
                for batch in parquet.iter_batches(_BATCH, row_groups=[group], columns=wanted):
                    yield at, batch
                    at += len(batch)
            except (OSError, ValueError, pa.ArrowException) as error:
                file.fault(f"row group {group} ({count} cases) cannot be read: {error}")
            first += count


def read_rows(
    path: Path, places: Sequence[int], columns: Iterable[str] = ROW_TYPES
) -> Iterator[dict[str, Any]]:
    """Yield rows of a Parquet file by ascending row number, reading only their row groups.

    Raises `StoreError` if the file has become shorter.
    """
    wanted = np.asarray(places)
    left = len(wanted)
    with pq.ParquetFile(path) as parquet:
        known = set(parquet.schema_arrow.names)
        names = [name for name in columns if name in known]
        first = 0
        for group in range(parquet.num_row_groups):
            end = first + parquet.metadata.row_group(group).num_rows
            if np.searchsorted(wanted, first) < np.searchsorted(wanted, end):
                for batch in parquet.iter_batches(_BATCH, row_groups=[group], columns=names):
                    low, high = np.searchsorted(wanted, (first, first + len(batch)))
                    if high > low:
                        yield from batch.take(pa.array(wanted[low:high] - first)).to_pylist()
                        left -= high - low
                    first += len(batch)
            first = end
    if left:
        raise StoreError(f"{path} has become shorter: open it again")


# ---- JSON lines


def read_new_cases(file: CaseFile) -> Iterator[tuple[list[int], pa.RecordBatch]]:
    """Yield (byte offsets, batch) of the lines that were written since the last call.

    An unfinished last line is left for the next call. A damaged line becomes a fault.
    """
    offsets: list[int] = []
    rows: list[dict[str, Any]] = []
    with file.path.open("rb") as lines:
        lines.seek(file.read_to)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            file.lines += 1
            try:
                rows.append(_row_of(line, file.path))
                offsets.append(file.read_to)
            except (ValueError, RecursionError) as error:
                file.fault(f"line {file.lines} is not a case: {reason_of(error)[:200]}")
            file.read_to += len(line)
            if len(rows) == _LINES:
                yield offsets, pa.RecordBatch.from_pylist(rows, schema=CASE_SCHEMA)
                offsets, rows = [], []
        file.fingerprint = fingerprint_of(lines, file.read_to)
    if rows:
        yield offsets, pa.RecordBatch.from_pylist(rows, schema=CASE_SCHEMA)


def read_line(path: Path, offset: int) -> dict[str, Any]:
    """Return the row of the line that begins at an offset."""
    with path.open("rb") as lines:
        lines.seek(offset)
        try:
            return _row_of(lines.readline(), path)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path} has changed: open it again") from error


def _row_of(line: bytes, path: Path) -> dict[str, Any]:
    """Return the row of a line of a journal (a record under a key) or of a file of cases."""
    entry = json.loads(line)
    if isinstance(entry, dict) and entry.keys() == {"key", "record"}:
        entry = entry["record"]
    case = Case.model_validate(entry)
    if path.name == "rollouts.jsonl" and case.trace.stage == "rl":
        # The name of this stage in cases.parquet.
        case.trace.stage = f"rl-{path.parent.name}"
    return storable_row(case)


def reason_of(error: ValueError | RecursionError) -> str:
    """Return in one line why a line could not be read."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error).strip().splitlines()[0]


def storable_row(case: Case) -> dict[str, Any]:
    """Return a case as a row for Parquet. NaN becomes None, a lone surrogate becomes U+FFFD.

    Raises `StoreError` for a number of more than 64 bits.
    """
    return {name: _storable(value) for name, value in case.to_row().items()}


def _storable(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise StoreError(f"a number has more than 64 bits: {str(value)[:20]}…")
    if isinstance(value, str) and not value.isascii():
        # A broken response may contain a lone surrogate, which UTF-8 cannot encode.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value
