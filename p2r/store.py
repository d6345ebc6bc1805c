"""Cases of one or several runs as Parquet, read through DuckDB: filter, search, page, count.

A run keeps its cases in `cases.parquet` (columns: `records.ROW_TYPES`). `write_cases` writes such a
file, `CaseStore` reads any number of them as one table without loading them.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from p2r.records import ROW_TYPES, Case

FILE_NAME = "cases.parquet"
# From this accuracy on an answer counts as right: the pipeline's threshold (filter.min_accuracy).
RIGHT_ACCURACY = 0.6
VERDICTS = ("yes", "no", "unknown")
OUTCOMES = ("right", "wrong", "unknown")

_ROW_GROUP = 2048
_ARROW = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
_SQL = {"str": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN"}
_SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in ROW_TYPES.items()])
_SEARCHED = (
    "id",
    "question.problem",
    "trace.observation",
    "trace.think",
    "trace.text",
    "verdict.rationale",
)
# Columns computed from the stored ones. NaN sorts above every number in SQL: it is ruled out first.
_DERIVED = {
    "verdict": """CASE WHEN "verdict.sufficient" THEN 'yes'
        WHEN NOT "verdict.sufficient" THEN 'no' ELSE 'unknown' END""",
    "outcome": f"""CASE WHEN accuracy IS NULL OR isnan(accuracy) THEN 'unknown'
        WHEN accuracy >= {RIGHT_ACCURACY} THEN 'right' ELSE 'wrong' END""",
    "fault": """coalesce("trace.problems", '[]') <> '[]'""",
    "perception_reward": '"perception.accuracy" + "perception.format" + "perception.length"',
    "reasoning_reward": '"reasoning.accuracy" + "reasoning.format" + "reasoning.length"',
}
COLUMNS = (*ROW_TYPES, *_DERIVED)
# What a list shows of a case: everything short.
LISTED = (
    "id",
    "question.id",
    "question.problem",
    "question.problem_type",
    "question.data_type",
    "question.source",
    "trace.run",
    "trace.stage",
    "trace.step",
    "trace.rollout",
    "trace.answer",
    "trace.completion_tokens",
    "trace.truncated",
    "accuracy",
    "perception_advantage",
    "reasoning_advantage",
    *_DERIVED,
)


class StoreError(ValueError):
    """Case files that cannot be written or read; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Filters:
    """Which cases: all fields that are set must hold; the names of a tuple are alternatives.

    `text` is searched, without case, in id, problem, observation, think, response and rationale.
    """

    text: str = ""
    run: tuple[str, ...] = ()
    stage: tuple[str, ...] = ()
    problem_type: tuple[str, ...] = ()
    data_type: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    question_id: tuple[str, ...] = ()
    verdict: Literal["yes", "no", "unknown"] | None = None
    outcome: Literal["right", "wrong", "unknown"] | None = None
    fault: bool | None = None
    truncated: bool | None = None


_FILTERED = {
    "run": "trace.run",
    "stage": "trace.stage",
    "problem_type": "question.problem_type",
    "data_type": "question.data_type",
    "source": "question.source",
    "question_id": "question.id",
    "verdict": "verdict",
    "outcome": "outcome",
    "fault": "fault",
    "truncated": "trace.truncated",
}


def case_file(path: str | Path) -> Path:
    """The case file of a run folder; a Parquet file is its own."""
    path = Path(path)
    return path if path.suffix == ".parquet" else path / FILE_NAME


def write_cases(path: str | Path, cases: Iterable[Case]) -> Path:
    """Write cases to a Parquet file (or into a run folder) and return the file's path.

    The cases are streamed. The file appears under its name only when it is whole; a former one is
    replaced. NaN becomes NULL (unknown). Raises `StoreError` for an id that comes twice.
    """
    target = case_file(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    rows = _checked_rows(target, cases)
    try:
        with pq.ParquetWriter(partial, _SCHEMA, compression="zstd") as writer:
            while group := list(itertools.islice(rows, _ROW_GROUP)):
                writer.write_table(pa.Table.from_pylist(group, schema=_SCHEMA))
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _checked_rows(target: Path, cases: Iterable[Case]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for case in cases:
        row = {name: _storable(value) for name, value in case.to_row().items()}
        if row["id"] in seen:
            raise StoreError(f"{target}: case {row['id']!r} comes twice; number its rollouts")
        seen.add(row["id"])
        yield row


def _storable(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, str) and not value.isascii():
        # A lone surrogate, as a broken response may hold, is no UTF-8: it becomes U+FFFD.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


class CaseStore:
    """Read access to the cases of run folders or Parquet files, as one table in written order.

    Every call takes its own cursor, so that threads may share a store. Values reach SQL as
    parameters only; names of columns are checked against `COLUMNS`.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.files = list(dict.fromkeys(case_file(path).resolve() for path in paths))
        if not self.files:
            raise StoreError("no runs given: name at least one run folder")
        for file in self.files:
            if not file.is_file():
                raise StoreError(f"no cases at {file}: run the pipeline first, or name another run")
        self._database = duckdb.connect()
        try:
            self._create_view()
        except duckdb.Error as error:
            reason = str(error).strip().splitlines()[0]
            names = ", ".join(map(str, self.files))
            raise StoreError(f"cannot read the cases of {names}: {reason}") from error
        self._refuse_repeated_ids()

    def page(
        self,
        filters: Filters = Filters(),
        sort: str | None = None,
        descending: bool = False,
        offset: int = 0,
        limit: int = 50,
        columns: Sequence[str] = LISTED,
    ) -> list[dict[str, Any]]:
        """Rows of a page; `sort` is one of `COLUMNS`, unknown values last; None: as written."""
        where, values = _where(filters)
        return self._rows(
            f"SELECT {_names(columns)} FROM cases {where} ORDER BY {_order(sort, descending)} "
            "LIMIT ? OFFSET ?",
            [*values, limit, offset],
        )

    def position(
        self, case_id: str, filters: Filters, sort: str | None = None, descending: bool = False
    ) -> int | None:
        """The place of a case (from 0) in the list, or None where the filters leave it out."""
        where, values = _where(filters)
        rows = self._rows(
            f"SELECT n FROM (SELECT id, row_number() OVER (ORDER BY {_order(sort, descending)}) "
            f"- 1 AS n FROM cases {where}) WHERE id = ?",
            [*values, case_id],
        )
        return rows[0]["n"] if rows else None

    def count(self, filters: Filters = Filters()) -> int:
        """How many cases there are."""
        where, values = _where(filters)
        return self._rows(f"SELECT count(*) AS n FROM cases {where}", values)[0]["n"]

    def quadrants(self, filters: Filters = Filters()) -> dict[tuple[str, str], int]:
        """Perception x answer: counts by (verdict, outcome), also the zeros.

        The verdict and the outcome of the filters are not applied: all cells stay visible.
        """
        where, values = _where(replace(filters, verdict=None, outcome=None))
        rows = self._rows(
            f"SELECT verdict, outcome, count(*) AS n FROM cases {where} GROUP BY ALL", values
        )
        found = {(row["verdict"], row["outcome"]): row["n"] for row in rows}
        return {cell: found.get(cell, 0) for cell in itertools.product(VERDICTS, OUTCOMES)}

    def values(self, column: str) -> dict[str, int]:
        """The distinct values of a column with their counts, the most frequent first."""
        rows = self._rows(
            f"SELECT {_name(column)} AS value, count(*) AS n FROM cases "
            "WHERE value IS NOT NULL GROUP BY value ORDER BY n DESC, value",
            [],
        )
        return {row["value"]: row["n"] for row in rows}

    def get(self, case_id: str) -> Case:
        """One case whole; raises `StoreError` where there is none of that id."""
        rows = self._rows(f"SELECT {_names(tuple(ROW_TYPES))} FROM cases WHERE id = ?", [case_id])
        if not rows:
            raise StoreError(f"no case {case_id!r} in these runs")
        return Case.from_row(rows[0])

    def file_of(self, case_id: str) -> Path:
        """The Parquet file that holds a case; raises `StoreError` where none does."""
        rows = self._rows("SELECT filename FROM cases WHERE id = ?", [case_id])
        if not rows:
            raise StoreError(f"no case {case_id!r} in these runs")
        return Path(rows[0]["filename"])

    def group(
        self, question_id: str, run: str, stage: str, step: int | None = None
    ) -> list[dict[str, Any]]:
        """The rollouts of a question at one step of one run, by their number."""
        return self._rows(
            f'SELECT {_names(LISTED)} FROM cases WHERE "question.id" = ? AND "trace.run" = ? '
            'AND "trace.stage" = ? AND "trace.step" IS NOT DISTINCT FROM ? '
            'ORDER BY "trace.rollout"',
            [question_id, run, stage, step],
        )

    def cases(self, filters: Filters = Filters()) -> Iterator[Case]:
        """All cases that pass, in their written order, a few at a time."""
        where, values = _where(filters)
        cursor = self._database.cursor()
        cursor.execute(
            f"SELECT {_names(tuple(ROW_TYPES))} FROM cases {where} ORDER BY {_order(None, False)}",
            values,
        )
        while rows := cursor.fetchmany(_ROW_GROUP):
            for row in rows:
                yield Case.from_row(dict(zip(ROW_TYPES, row, strict=True)))

    def _create_view(self) -> None:
        # Escaped, since the reader takes names for patterns.
        stored = self._database.read_parquet(
            [glob.escape(str(file)) for file in self.files],
            union_by_name=True,
            filename=True,
            file_row_number=True,
        )
        if "id" not in stored.columns:
            raise StoreError(f"{self.files[0]} holds no cases: it has no column 'id'")
        stored.create_view("stored")
        # Files of an earlier version lack the newer columns: unknown there.
        columns = [
            f'"{name}"' if name in stored.columns else f'NULL::{_SQL[kind]} AS "{name}"'
            for name, kind in ROW_TYPES.items()
        ]
        self._database.execute(
            f"CREATE VIEW plain AS SELECT {', '.join(columns)}, filename, file_row_number "
            "FROM stored"
        )
        derived = ", ".join(f'{sql} AS "{name}"' for name, sql in _DERIVED.items())
        self._database.execute(f"CREATE VIEW cases AS SELECT *, {derived} FROM plain")

    def _refuse_repeated_ids(self) -> None:
        repeated = self._rows(
            "SELECT id, min(filename) AS one, max(filename) AS other FROM cases "
            "GROUP BY id HAVING count(*) > 1 LIMIT 1",
            [],
        )
        if repeated:
            row = repeated[0]
            raise StoreError(
                f"case {row['id']!r} is in {row['one']} and in {row['other']}: "
                "open runs of different names together, not copies of one"
            )

    def _rows(self, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        cursor = self._database.cursor()
        cursor.execute(query, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _where(filters: Filters) -> tuple[str, list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if filters.text:
        searched = ", ".join(f'"{column}"' for column in _SEARCHED)
        conditions.append(f"contains(lower(concat_ws(chr(10), {searched})), lower(?))")
        values.append(filters.text)
    for field, column in _FILTERED.items():
        wanted = getattr(filters, field)
        if wanted is None or wanted == ():
            continue
        many = isinstance(wanted, tuple)
        conditions.append(f'list_contains(?, "{column}")' if many else f'"{column}" = ?')
        values.append(list(wanted) if many else wanted)
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), values


def _order(sort: str | None, descending: bool) -> str:
    written = "filename, file_row_number"
    if sort is None:
        return written
    return f"{_name(sort)} {'DESC' if descending else 'ASC'} NULLS LAST, {written}"


def _names(columns: Sequence[str]) -> str:
    return ", ".join(_name(column) for column in columns)


def _name(column: str) -> str:
    if column not in COLUMNS:
        raise StoreError(f"no column {column!r}: it is one of {', '.join(COLUMNS)}")
    return f'"{column}"'
