"""A selection of cases as a file: Parquet, CSV for spreadsheets, JSON lines. Streamed."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from p2r.cases.files import CASE_SCHEMA, storable_row
from p2r.errors import UserError
from p2r.files.atomic import draft_of, replacing
from p2r.files.jsonlines import to_line
from p2r.files.safe_text import spreadsheet_cell
from p2r.records import Case

KINDS = ("parquet", "csv", "jsonl")
_ROW_GROUP = 512


def export_cases(cases: Iterable[Case], path: str | Path, kind: str | None = None) -> int:
    """Write cases to a file and return their number; a few are in memory at a time.

    `kind`: one of `KINDS`, by default what the file's name says. Parquet and JSON lines can be
    opened again by everything that reads cases; in CSV a text that a spreadsheet would take for a
    formula begins with an apostrophe. The file appears when it is whole. Raises `UserError` for
    an unknown kind.
    """
    path = Path(path)
    kind = kind or path.suffix.removeprefix(".")
    if kind not in KINDS:
        raise UserError(f"cases are exported as {', '.join(KINDS)}, not as {kind!r}")
    written = itertools.count()
    counted = (case for case in cases if next(written) >= 0)
    if kind == "parquet":
        with draft_of(path) as draft:
            _write_parquet(counted, draft)
    else:
        with replacing(path) as file:
            file.writelines(text_lines(counted, kind))
    return next(written)


def text_lines(cases: Iterable[Case], kind: str) -> Iterator[str]:
    """The cases as lines of CSV (with a head, and the mark by which spreadsheets know UTF-8) or of
    JSON.
    """
    if kind == "jsonl":
        for case in cases:
            yield to_line(case.model_dump(mode="json"))
        return
    yield "\ufeff" + _csv_line(CASE_SCHEMA.names)
    for case in cases:
        yield _csv_line([spreadsheet_cell(value) for value in storable_row(case).values()])


def _csv_line(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(list(values))
    return line.getvalue()


def _write_parquet(cases: Iterable[Case], path: Path) -> None:
    rows = iter(storable_row(case) for case in cases)
    with pq.ParquetWriter(path, CASE_SCHEMA, compression="zstd") as writer:
        while group := list(itertools.islice(rows, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=CASE_SCHEMA))
