"""The cases of some runs as DuckDB tables, loaded from the runs' files and extended as they grow.

`cases` has one row per case, numbered in written order: `number`, `file` (place in `files`),
`place` (row of a Parquet file, byte offset in JSON lines), the short and the computed columns.
`texts` has their searched texts (`p2r.cases.text_index`).
"""

from __future__ import annotations

import glob
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from p2r.cases.database import Database
from p2r.cases.files import (
    CaseFault,
    CaseFile,
    case_file,
    find_case_files,
    identify,
    read_groups,
    read_line,
    read_new_cases,
    read_rows,
    was_rewritten,
)
from p2r.cases.selection import DERIVED, LONG, SHORT, name_column, short_column
from p2r.cases.text_index import TextIndex
from p2r.cases.texts import searched_texts
from p2r.errors import StoreError
from p2r.records import ROW_TYPES, Case

_SQL = {"str": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN"}
# How many cases are read from the files together: in the files' order, and in any order.
_CHUNK, _LARGE_CHUNK = 1024, 8192
_VERSIONS = itertools.count(1)


class CaseTable:
    """The cases of some runs. `grow` adds the lines that were appended to their files.

    `database` has the tables, `texts` searches the texts. Threads may share a `CaseTable`.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.database = Database()
        self._paths = paths
        self._write = threading.Lock()
        self._next = 0
        self.count = self.version = 0  # a version is of this table alone, and changes as it grows
        self.files: list[CaseFile] = []
        self._create()
        self.texts = TextIndex(self.database)
        for path in paths:
            self._open(path)
        self.grow()
        self.database.compress()
        self.texts.start()

    def all_faults(self) -> list[CaseFault]:
        """Return the parts of the files that cannot be read, with the reasons."""
        return [fault for file in self.files for fault in file.faults]

    def is_outdated(self, look_for_files: bool = False) -> bool:
        """Return whether a file was replaced or removed.

        With `look_for_files`, also return whether a file was added or overwritten.
        """
        if any(
            file.identity != identify(file.path)
            for file in self.files
            if look_for_files or file.is_parquet
        ):
            return True
        if not look_for_files:
            return False
        # A run that is given under two names is read once.
        now = {found.resolve(): None for path in self._paths for found in find_case_files(path)}
        return [*now] != [file.path for file in self.files] or any(
            was_rewritten(file) for file in self.files if not file.is_parquet
        )

    def grow(self) -> None:
        """Add the lines that were appended to the files since the last call."""
        with self._write:
            for place, file in enumerate(self.files):
                if file.is_parquet:
                    continue
                for offsets, batch in read_new_cases(file):
                    self._add_lines(place, offsets, batch)
            count = self.database.query("SELECT count(*) AS count FROM cases")[0]["count"]
            if count != self.count or not self.version:
                self.version = next(_VERSIONS)
            self.count = count

    # ---- queries

    def number_of(self, case_id: str) -> int | None:
        """Return the number of a case; None for an unknown id."""
        # An id with half a character, a lone surrogate, cannot be in the table.
        clean = case_id.encode("utf-8", "replace").decode()
        rows = self.database.query("SELECT number FROM cases WHERE id = ?", [clean])
        return rows[0]["number"] if rows and clean == case_id else None

    def rows(self, numbers: np.ndarray, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return columns of some cases, in the order of the numbers."""
        if not len(numbers):
            return []
        names = "".join(f", {name_column(name)}" for name in columns if name not in LONG)
        found = {
            row.pop("number"): row
            for row in self.database.query(
                f"SELECT number{names} FROM cases WHERE number IN (SELECT unnest(?))",
                [[int(number) for number in numbers]],
            )
        }
        if LONG.intersection(columns):
            wanted = ["id", *LONG.intersection(columns)]
            for number, stored in self.stored(numbers, wanted).items():
                found[number] = {
                    name: stored.get(name) if name in LONG else found[number][name]
                    for name in columns
                }
        return [found[number] for number in map(int, numbers)]

    def file_of(self, number: int) -> CaseFile:
        """Return the file that holds a case."""
        row = self.database.query("SELECT file FROM cases WHERE number = ?", [int(number)])
        return self.files[row[0]["file"]]

    def set_truths(self, truths: Mapping[str, str]) -> None:
        """Fill in the column `truth` of some cases, by id."""
        rows = {"id": list(truths), "word": list(truths.values())}
        piece = pa.table(rows, pa.schema([(name, "string") for name in rows]))
        with self._write, self.database.cursor(piece=piece) as cursor:
            cursor.execute("UPDATE cases SET truth = word FROM piece WHERE cases.id = piece.id")
            self.version = next(_VERSIONS)

    # ---- whole cases, from their files

    def read_case(self, number: int) -> Case:
        """Return one case. Raises `StoreError` if its row is damaged."""
        return _case_of(self.stored(np.array([number]))[number])

    def read_cases(self, numbers: np.ndarray, few: bool = True) -> Iterator[Case]:
        """Yield cases in the order of the numbers. A damaged row is reported as a fault.

        `few` reads small pieces, which suits the order of the files. Without it the pieces are
        large, which saves passes over the files.
        """
        size = _CHUNK if few else _LARGE_CHUNK
        for start in range(0, len(numbers), size):
            some = numbers[start : start + size]
            stored = self.stored(some)
            for number in map(int, some):
                try:
                    case = _case_of(stored[number])
                except StoreError as error:
                    self.file_of(number).fault(str(error))
                    continue
                yield case

    def stored(
        self, numbers: np.ndarray, columns: Iterable[str] = ROW_TYPES
    ) -> dict[int, dict[str, Any]]:
        """Return the rows of some cases by number, read from their files.

        `columns` are those to read from a Parquet file, with "id". A line is always read whole.

        Raises `StoreError` if a file cannot be read or has changed.
        """
        wanted = [int(number) for number in numbers]
        places = self.database.query(
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
                    found = read_rows(file.path, [row["place"] for row in here], columns)
                else:
                    found = (read_line(file.path, row["place"]) for row in here)
                for row, content in zip(here, found, strict=True):
                    if content.get("id") != row["id"]:
                        raise StoreError(f"{file.path} has changed: open it again")
                    stored[row["number"]] = content
            except (OSError, pa.ArrowException) as error:
                raise StoreError(f"{file.path} cannot be read: {error}") from error
        return stored

    # ---- loading

    def _create(self) -> None:
        columns = ", ".join(f'{short_column(name)} AS "{name}"' for name in SHORT)
        derived = ", ".join(f'{sql} AS "{name}"' for name, sql in DERIVED.items())
        # The only translation of a stored row; %s: the relation that it is read from.
        self._translate = (
            f"SELECT number, file, place, {columns}, {derived} FROM %s WHERE id IS NOT NULL"
        )
        fields = ", ".join(f'NULL::{_SQL[kind]} AS "{name}"' for name, kind in ROW_TYPES.items())
        nothing = f"(SELECT 0::INTEGER AS number, 0::INTEGER AS file, 0::BIGINT AS place, {fields})"
        self.database.query(f"CREATE TABLE cases AS {self._translate % nothing} AND false")

    def _open(self, path: Path) -> None:
        if path.is_file() and path.suffix != ".parquet":
            raise StoreError(
                f"{path} is a file: pass the folder of a run, or a cases.parquet of a run"
            )
        found = find_case_files(path)
        if not found:
            other = path.is_dir() and not (path / "recipe.yaml").is_file()
            advice = "run the pipeline first, or name another run"
            if other:
                advice = f"{path} is not a run (it has no recipe.yaml), pass the folder of a run"
            raise StoreError(f"no cases at {case_file(path)}: {advice}")
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
        # Files of an earlier version lack the newer columns. Other programs may write other types.
        columns = ", ".join(
            f'TRY_CAST("{name}" AS {_SQL[kind]}) AS "{name}"'
            if name in schema.names
            else f'NULL::{_SQL[kind]} AS "{name}"'
            for name, kind in ROW_TYPES.items()
            if name in SHORT
        )
        first = self._next
        relation = (
            f"(SELECT {first} + file_row_number AS number, {place} AS file, file_row_number AS "
            f"place, {columns} FROM {{}})"
        )
        with pq.ParquetFile(file.path) as parquet:
            self._next += parquet.metadata.num_rows
        try:
            # Escaped, because read_parquet reads a name as a pattern.
            self._insert(
                relation.format("read_parquet(?, file_row_number = true)"),
                [glob.escape(str(file.path))],
            )
        except duckdb.Error:
            self._salvage(file, relation.format("piece"))
        self._remove_repeats(first, file)
        self.texts.add_file(file, first, self._next - first)

    def _salvage(self, file: CaseFile, relation: str) -> None:
        """Load the row groups of a damaged file that can be read."""
        for row, batch in read_groups(file, list(SHORT)):
            places = pa.array(range(row, row + len(batch)), pa.int64())
            piece = pa.table(batch).append_column("file_row_number", places)
            self._insert(relation, piece=piece)

    def _add_lines(self, place: int, offsets: list[int], batch: pa.RecordBatch) -> None:
        first = self._next
        self._next += len(batch)
        rows = pa.table(batch)
        rows = rows.append_column("number", pa.array(range(first, self._next), pa.int32()))
        rows = rows.append_column("file", pa.array([place] * len(batch), pa.int32()))
        rows = rows.append_column("place", pa.array(offsets, pa.int64()))
        self._insert("piece", piece=rows)
        self._remove_repeats(first, self.files[place])
        self.texts.add([searched_texts(first, batch)])

    def _insert(self, source: str, values: Sequence[Any] = (), **relations: pa.Table) -> None:
        with self.database.cursor(**relations) as cursor:
            cursor.execute("INSERT INTO cases " + self._translate % source, values)

    def _remove_repeats(self, first: int, file: CaseFile) -> None:
        """Keep the first of the cases that have the same id, in the files of one run.

        Raises `StoreError` if two runs, or two Parquet files of one run, share a case.
        """
        repeated = self.database.query(
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
            self.database.query("DELETE FROM cases WHERE number IN (SELECT unnest(?))", [numbers])


def _case_of(row: dict[str, Any]) -> Case:
    try:
        return Case.from_row(row)
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreError(f"case {row.get('id')!r} is damaged: {reason}") from error
