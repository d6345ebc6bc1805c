"""The table of cases in memory: filled from the files of runs, grown while they are written.

One row per case, numbered in written order: `number`, `file` (place in `files`), `place` (row of a
Parquet file, byte offset in JSON lines), the short columns of a row and the computed ones.
"""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from p2r.cases.files import (
    SEARCHED_COLUMNS,
    CaseFile,
    Fault,
    case_file,
    find_case_files,
    identify,
    read_groups,
    read_line,
    read_new_cases,
    read_rows,
    searched_texts,
)
from p2r.cases.selection import DERIVED, FIELDS, LONG, SHORT, SHORTENED, name_column
from p2r.cases.text_index import Texts, TextSearch, query_chunks, union
from p2r.errors import StoreError
from p2r.records import ROW_TYPES, Case

Kept = TypeVar("Kept")
_SQL = {"str": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN"}
_KEPT = 96
_CHUNK, _LARGE_CHUNK = 1024, 8192
# Fewer rows than the first are searched without an index, more than the second are compressed.
_FEW, _MANY = 2048, 20_000


class CaseTable:
    """The cases of some runs as they are now; `grow` adds what was appended to their files.

    Every query takes its own cursor, so that threads may share a table.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._write = threading.Lock()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._kept_lock = threading.Lock()
        self._search = TextSearch()
        self._next = 0
        self.count = 0
        self.files: list[CaseFile] = []
        self._database = duckdb.connect(
            config={
                "threads": min(4, os.cpu_count() or 1),
                "memory_limit": "2GB",
                # Made only when memory runs out, and never beside a run.
                "temp_directory": os.path.join(tempfile.gettempdir(), f"p2r-{os.getpid()}.duckdb"),
            }
        )
        self._create()
        for path in paths:
            self._open(path)
        self.grow()
        if self.count > _MANY:
            # Compresses the table: a fifth of the memory.
            self._database.execute("CHECKPOINT")

    def close(self) -> None:
        """End the work in the background."""
        self._search.close()

    def wait_for_index(self, timeout: float | None = None) -> bool:
        """Wait until searches use the index."""
        return self._search.wait(timeout)

    def all_faults(self) -> list[Fault]:
        """What cannot be read of the files, and why."""
        found = [fault for file in self.files for fault in file.faults]
        reason = self._search.fault
        return found + ([Fault(self.files[0].path, reason)] if reason else [])

    def is_outdated(self, look_for_files: bool = False) -> bool:
        """Whether a file was replaced or has gone; or, if asked, has come."""
        if any(
            file.identity != identify(file.path)
            for file in self.files
            if look_for_files or file.is_parquet
        ):
            return True
        if not look_for_files:
            return False
        now = [found.resolve() for path in self._paths for found in find_case_files(path)]
        return now != [file.path for file in self.files] or any(
            file.path.stat().st_size < file.read_to for file in self.files if not file.is_parquet
        )

    def grow(self) -> None:
        """Take in the lines that were appended since."""
        with self._write:
            for place, file in enumerate(self.files):
                if file.is_parquet:
                    continue
                for offsets, batch in read_new_cases(file):
                    self._add_lines(place, offsets, batch)
            self.count = self.query("SELECT count(*) AS count FROM cases", [])[0]["count"]
            with self._kept_lock:
                self._kept.clear()

    # ---- questions

    def kept(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """The answer to a question, computed once for the table as it is."""
        key = (self.count, key)
        with self._kept_lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        answer = compute()
        with self._kept_lock:
            self._kept[key] = answer
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return answer

    def query(
        self, query: str, values: Sequence[Any], matched: np.ndarray | None = None
    ) -> list[dict[str, Any]]:
        """The rows of a query; `matched`: the numbers in the relation of that name."""
        with self._cursor(matched) as cursor:
            cursor.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def numbers(
        self, query: str, values: Sequence[Any], matched: np.ndarray | None = None
    ) -> np.ndarray:
        """The `number` of the rows of a query."""
        with self._cursor(matched) as cursor:
            cursor.execute(query, values)
            return np.asarray(cursor.fetchnumpy()["number"], np.int32)

    def find(self, text: str, fields: Sequence[str]) -> np.ndarray | None:
        """The numbers of the cases that hold a text in the fields (none: all, and the id); None:
        there is nothing to look for.
        """
        chunks = query_chunks(text)
        if not chunks:
            return None
        chosen = [FIELDS.index(field) for field in fields if field in FIELDS]

        def compute() -> np.ndarray:
            found = self._search.find(chunks, chosen or range(len(FIELDS)))
            if fields:
                return found.astype(np.int32)
            named = self.numbers(
                "SELECT number FROM cases WHERE contains(lower(id), ?)", [" ".join(chunks)]
            )
            return union([found, np.sort(named)]).astype(np.int32)

        return self.kept(("text", tuple(chunks), tuple(chosen), bool(fields)), compute)

    def number_of(self, case_id: str) -> int | None:
        """The number of a case."""
        try:
            rows = self.query("SELECT number FROM cases WHERE id = ?", [case_id])
        except (UnicodeError, duckdb.Error):  # no text at all, such as half a character
            return None
        return rows[0]["number"] if rows else None

    def rows(self, numbers: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of some cases, in the order of the numbers; long ones are read from the files."""
        if not len(numbers):
            return []
        short = [name for name in columns if name not in LONG]
        names = "".join(f", {name_column(name)}" for name in short)
        found = {
            row.pop("number"): row
            for row in self.query(
                f"SELECT number{names} FROM cases WHERE number IN (SELECT unnest(?))",
                [[int(number) for number in numbers]],
            )
        }
        if len(short) < len(columns):
            stored = self._stored(numbers)
            found = {
                number: {
                    name: stored[number].get(name) if name in LONG else row[name]
                    for name in columns
                }
                for number, row in found.items()
            }
        return [found[number] for number in map(int, numbers)]

    def file_of(self, number: int) -> CaseFile:
        """The file that holds a case."""
        row = self.query("SELECT file FROM cases WHERE number = ?", [int(number)])
        return self.files[row[0]["file"]]

    def read_case(self, number: int) -> Case:
        """A case whole; raises `StoreError` where its row makes no sense."""
        return self._case(self._stored(np.array([number]))[number])

    def read_cases(self, numbers: np.ndarray, few: bool = True) -> Iterator[Case]:
        """Cases whole, in the order of the numbers: a `few` at a time, which suits the order of the
        files, or many, which saves passes over them. A row that makes no sense is a fault.
        """
        size = _CHUNK if few else _LARGE_CHUNK
        for start in range(0, len(numbers), size):
            some = numbers[start : start + size]
            stored = self._stored(some)
            for number in map(int, some):
                try:
                    case = self._case(stored[number])
                except StoreError as error:
                    self.file_of(number).fault(str(error))
                    continue
                yield case

    # ---- inside

    @contextlib.contextmanager
    def _cursor(self, matched: np.ndarray | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        cursor = self._database.cursor()
        try:
            if matched is not None:
                cursor.register("matched", pa.table({"number": matched}))
            yield cursor
        finally:
            cursor.close()

    def _create(self) -> None:
        columns = ", ".join(f'{_short(name)} AS "{name}"' for name in SHORT)
        derived = ", ".join(f'{sql} AS "{name}"' for name, sql in DERIVED.items())
        # The one translation from a stored row; %s: the relation it is read from.
        self._translate = (
            f"SELECT number, file, place, {columns}, {derived} FROM %s WHERE id IS NOT NULL"
        )
        fields = ", ".join(f'NULL::{_SQL[kind]} AS "{name}"' for name, kind in ROW_TYPES.items())
        nothing = f"(SELECT 0::INTEGER AS number, 0::INTEGER AS file, 0::BIGINT AS place, {fields})"
        self._database.execute(f"CREATE TABLE cases AS {self._translate % nothing} AND false")

    def _open(self, path: Path) -> None:
        found = find_case_files(path)
        if not found:
            raise StoreError(
                f"no cases at {case_file(path)}: run the pipeline first, or name another run"
            )
        run = case_file(path).resolve().parent
        for each in found:
            if any(file.path == each.resolve() for file in self.files):
                continue
            file = CaseFile(each.resolve(), run, identify(each))
            self.files.append(file)
            if file.is_parquet:
                try:
                    self._add_parquet(len(self.files) - 1, file)
                except (OSError, ValueError, pa.ArrowException, duckdb.Error) as error:
                    reason = str(error).strip().splitlines()[0]
                    if isinstance(error, StoreError) or len(found) == 1:
                        raise StoreError(f"cannot read the cases of {each}: {reason}") from error
                    file.fault(f"cannot be read: {reason}")

    def _add_parquet(self, place: int, file: CaseFile) -> None:
        schema = pq.read_schema(file.path)
        if "id" not in schema.names:
            raise StoreError(f"{file.path} holds no cases: it has no column 'id'")
        # Files of an earlier version lack the newer columns, foreign ones may hold other types.
        columns = ", ".join(
            f'TRY_CAST("{name}" AS {_SQL[kind]}) AS "{name}"'
            if name in schema.names
            else f'NULL::{_SQL[kind]} AS "{name}"'
            for name, kind in ROW_TYPES.items()
            if name not in LONG
        )
        first = self._next
        relation = (
            f"(SELECT {first} + file_row_number AS number, {place} AS file, file_row_number AS "
            f"place, {columns} FROM {{}})"
        )
        with pq.ParquetFile(file.path) as parquet:
            self._next += parquet.metadata.num_rows
        with self._cursor() as cursor:
            try:
                # Escaped, since the reader takes names for patterns.
                cursor.execute(
                    "INSERT INTO cases "
                    + self._translate % relation.format("read_parquet(?, file_row_number = true)"),
                    [glob.escape(str(file.path))],
                )
            except duckdb.Error:
                self._salvage(cursor, file, relation)
        self._settle_repeats(first, file)

        def texts() -> Iterator[Texts]:
            for row, batch in read_groups(CaseFile(file.path, file.run), SEARCHED_COLUMNS):
                yield from searched_texts(first + row, batch)

        if self._next - first < _FEW:
            self._search.add(texts())
        else:
            self._search.add_stream(texts)

    def _salvage(self, cursor: duckdb.DuckDBPyConnection, file: CaseFile, relation: str) -> None:
        """The row groups of a damaged file that can be read."""
        for row, batch in read_groups(file, list(SHORT)):
            places = pa.array(range(row, row + len(batch)), pa.int64())
            cursor.register("piece", pa.table(batch).append_column("file_row_number", places))
            cursor.execute("INSERT INTO cases " + self._translate % relation.format("piece"))

    def _add_lines(self, place: int, offsets: list[int], batch: pa.RecordBatch) -> None:
        first = self._next
        self._next += len(batch)
        rows = pa.table(batch)
        rows = rows.append_column("number", pa.array(range(first, self._next), pa.int32()))
        rows = rows.append_column("file", pa.array([place] * len(batch), pa.int32()))
        rows = rows.append_column("place", pa.array(offsets, pa.int64()))
        with self._cursor() as cursor:
            cursor.register("piece", rows)
            cursor.execute("INSERT INTO cases " + self._translate % "piece")
        self._settle_repeats(first, self.files[place])
        self._search.add(searched_texts(first, batch))

    def _settle_repeats(self, first: int, file: CaseFile) -> None:
        """Of a case that comes twice in the files of a run the first counts; two runs share none.

        Raises `StoreError` for copies of one run.
        """
        repeated = self.query(
            "SELECT later.id, later.number, min(earlier.file) AS file FROM cases AS later "
            "JOIN cases AS earlier ON later.id = earlier.id AND earlier.number < later.number "
            "WHERE later.number >= ? GROUP BY ALL",
            [first],
        )
        for row in repeated:
            other = self.files[row["file"]]
            if other.run != file.run or (other.is_parquet and file.is_parquet and other != file):
                raise StoreError(
                    f"case {row['id']!r} is in {other.path} and in {file.path}: "
                    "open runs of different names together, not copies of one"
                )
            if other is file and file.is_parquet:
                file.fault(f"case {row['id']!r} comes twice: the first is shown")
        if repeated:
            numbers = [row["number"] for row in repeated]
            self.query("DELETE FROM cases WHERE number IN (SELECT unnest(?))", [numbers])

    def _stored(self, numbers: np.ndarray) -> dict[int, dict[str, Any]]:
        """The rows of some cases as they stand in their files, by number."""
        wanted = [int(number) for number in numbers]
        places = self.query(
            "SELECT number, file, place, id FROM cases WHERE number IN (SELECT unnest(?)) "
            "ORDER BY file, place",
            [wanted],
        )
        stored: dict[int, dict[str, Any]] = {}
        for index, file in enumerate(self.files):
            here = [row for row in places if row["file"] == index]
            if not here:
                continue
            try:
                if file.is_parquet:
                    found = read_rows(file.path, [row["place"] for row in here])
                else:
                    found = (read_line(file.path, row["place"]) for row in here)
                for row, content in zip(here, found, strict=True):
                    if content.get("id") != row["id"]:
                        raise StoreError(f"{file.path} has changed: open it again")
                    stored[row["number"]] = content
            except (OSError, pa.ArrowException) as error:
                raise StoreError(f"{file.path} cannot be read: {error}") from error
        return stored

    def _case(self, row: dict[str, Any]) -> Case:
        try:
            return Case.from_row(row)
        except ValueError as error:
            reason = str(error).strip().splitlines()[0]
            raise StoreError(f"case {row.get('id')!r} is damaged: {reason}") from error


def _short(name: str) -> str:
    if name in SHORTENED:
        return f'left("{name}", {SHORTENED[name]})'
    if ROW_TYPES[name] == "float":
        # NaN sorts above every number in SQL: it is unknown.
        return f'CASE WHEN isnan("{name}") THEN NULL ELSE "{name}" END'
    return f'"{name}"'
