"""The files of a run that hold cases, read piece by piece, also while they are being written.

    cases.parquet              the cases of all stages, rebuilt at the end of each
    cases/*.jsonl              the scored cases of one stage each
    generate.jsonl, eval/*.jsonl, */rollouts.jsonl   what a stage writes while it runs

A file is taken in as far as it can be read; what cannot be is reported with its reason and left
out. Nothing is written.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from p2r.cases.selection import FIELDS
from p2r.cases.text_index import Texts
from p2r.errors import StoreError
from p2r.files.atomic import draft_of
from p2r.records import ROW_TYPES, Case

FILE_NAME = "cases.parquet"
_ARROW = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
CASE_SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in ROW_TYPES.items()])
_BATCH, _GROUP = 1024, 2048
_LINES = 2048
_FAULTS = 20
_LEAST, _MOST = -(2**63), 2**63 - 1
SEARCHED_COLUMNS = [
    "question.problem",
    "question.options",
    "trace.observation",
    "trace.think",
    "trace.answer",
    "trace.text",
    "trace.problems",
    "verdict.rationale",
]


@dataclass(frozen=True)
class Fault:
    """A part of a file that cannot be read, and why."""

    path: Path
    reason: str


@dataclass
class CaseFile:
    """A file with cases and how far it was read."""

    path: Path
    run: Path
    identity: tuple[int, ...] = ()
    read_to: int = 0
    lines: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_parquet(self) -> bool:
        return self.path.suffix == ".parquet"

    def fault(self, reason: str) -> None:
        """Remember what cannot be read, once; of many parts the first ones."""
        fault = Fault(self.path, " ".join(reason.split()))
        if fault in self.faults:
            return
        if len(self.faults) < _FAULTS:
            self.faults.append(fault)
        elif len(self.faults) == _FAULTS:
            self.faults.append(Fault(self.path, "and more of it"))


def case_file(path: str | Path) -> Path:
    """The Parquet file of a run folder; a Parquet file is its own."""
    path = Path(path)
    return path if path.suffix == ".parquet" else path / FILE_NAME


def write_cases(path: str | Path, cases: Iterable[Case]) -> Path:
    """Write cases to a Parquet file (or into a run folder) and return the file's path.

    The cases are streamed. The file appears under its name only when it is whole; a former one is
    replaced. NaN becomes NULL (unknown). Raises `StoreError` for an id that comes twice.
    """
    target = case_file(path)
    rows = _checked_rows(target, cases)
    with (
        draft_of(target) as draft,
        pq.ParquetWriter(draft, CASE_SCHEMA, compression="zstd") as writer,
    ):
        while group := list(itertools.islice(rows, _GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=CASE_SCHEMA))
    return target


def _checked_rows(target: Path, cases: Iterable[Case]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for case in cases:
        row = storable_row(case)
        if row["id"] in seen:
            raise StoreError(f"{target}: case {row['id']!r} comes twice; number its rollouts")
        seen.add(row["id"])
        yield row


def find_case_files(path: str | Path) -> list[Path]:
    """The files of a run that hold cases, those first that count where two hold the same case.

    A scored file that is older than the run's Parquet file is part of that and not listed.
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
    """Files below a run; links are not followed out of it."""
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
    """What tells a file from one that took its place: of a file that grows, only its inode."""
    try:
        status = path.stat()
    except OSError:
        return ()
    fixed = (status.st_dev, status.st_ino)
    return (*fixed, status.st_size, status.st_mtime_ns) if path.suffix == ".parquet" else fixed


# ---- Parquet


def read_groups(file: CaseFile, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(row number of the first row, batch) over a Parquet file; a damaged row group is a fault.

    Columns that the file lacks are absent from the batches.
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


def read_rows(path: Path, places: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of a Parquet file, by ascending row number: only their row groups are read.

    Raises `StoreError` for a file that has become shorter.
    """
    wanted = np.asarray(places)
    left = len(wanted)
    with pq.ParquetFile(path) as parquet:
        known = set(parquet.schema_arrow.names)
        names = [name for name in ROW_TYPES if name in known]
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


def searched_texts(first: int, batch: pa.RecordBatch) -> Iterator[Texts]:
    """The searched texts of rows, field by field; the cases are numbered from `first`."""

    def column(name: str) -> pa.Array:
        there = name in batch.schema.names and pa.types.is_string(batch.schema.field(name).type)
        return batch.column(name) if there else pa.nulls(len(batch), pa.string())

    think, problems = column("trace.think"), column("trace.problems")
    on_template = pc.and_(pc.is_valid(think), pc.equal(pc.fill_null(problems, "[]"), "[]"))
    spoken = _join(think, column("trace.answer"))
    texts = {
        "question": _join(column("question.problem"), column("question.options")),
        "observation": column("trace.observation"),
        "reasoning": pc.if_else(on_template, spoken, column("trace.text")),
        "rationale": column("verdict.rationale"),
    }
    numbers = np.arange(first, first + len(batch))
    for place, name in enumerate(FIELDS):
        there = pc.fill_null(pc.not_equal(texts[name], ""), False)
        kept = texts[name].filter(there)
        if len(kept):
            cases = numbers[np.asarray(there)]
            yield Texts(cases, np.full(len(kept), place, np.int8), kept)


def _join(first: pa.Array, second: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(pc.fill_null(first, ""), pc.fill_null(second, ""), " ")


# ---- JSON lines


def read_new_cases(file: CaseFile) -> Iterator[tuple[list[int], pa.RecordBatch]]:
    """(byte offsets, batch) of the lines that were written since the last call, in pieces.

    An unfinished last line waits for the next call; a damaged one is a fault.
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
                file.fault(f"line {file.lines} is no case: {_reason(error)[:200]}")
            file.read_to += len(line)
            if len(rows) == _LINES:
                yield offsets, pa.RecordBatch.from_pylist(rows, schema=CASE_SCHEMA)
                offsets, rows = [], []
    if rows:
        yield offsets, pa.RecordBatch.from_pylist(rows, schema=CASE_SCHEMA)


def read_line(path: Path, offset: int) -> dict[str, Any]:
    """The row of the line that begins at an offset."""
    with path.open("rb") as lines:
        lines.seek(offset)
        try:
            return _row_of(lines.readline(), path)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{path} has changed: open it again") from error


def _row_of(line: bytes, path: Path) -> dict[str, Any]:
    """The row of a line of a journal (a record under a key) or of a file of cases."""
    entry = json.loads(line)
    if isinstance(entry, dict) and entry.keys() == {"key", "record"}:
        entry = entry["record"]
    case = Case.model_validate(entry)
    if path.name == "rollouts.jsonl" and case.trace.stage == "rl":
        # As the stage is called when its last rollouts are among the run's cases.
        case.trace.stage = f"rl-{path.parent.name}"
    return storable_row(case)


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error).strip().splitlines()[0]


def storable_row(case: Case) -> dict[str, Any]:
    """The row of a case as Parquet takes it: NaN is unknown, half characters are U+FFFD.

    Raises `StoreError` for a number of more than 64 bits.
    """
    return {name: _storable(value) for name, value in case.to_row().items()}


def _storable(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise StoreError(f"a number is too long: {str(value)[:20]}…")
    if isinstance(value, str) and not value.isascii():
        # A lone surrogate, as a broken response may hold, is no UTF-8: it becomes U+FFFD.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value
