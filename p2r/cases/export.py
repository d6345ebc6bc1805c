"""Exports a selection of cases, streamed: Parquet, CSV for spreadsheets, or JSON lines."""

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
    """Write cases to a file and return their number. Only a few are in memory at a time.

    `kind`: one of `KINDS`; by default the suffix of the file. Parquet and JSON lines can be read
    again as cases. In CSV, a text that a spreadsheet would run as a formula gets an apostrophe in
    front. The file appears when it is complete. Raises `UserError` for an unknown kind.
    """
    path = Path(path)
    kind = kind or path.suffix.removeprefix(".")
    if kind not in KINDS:
        raise UserError(f"cases cannot be exported as {kind!r}: use {', '.join(KINDS)}")
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
    """Yield the cases as lines of JSON, or of CSV with a header and a byte order mark.

    Spreadsheets need the byte order mark to recognise UTF-8.
    """
    if kind == "jsonl":
        for case in cases:
            yield to_line(case.model_dump(mode="json"))
        return
    yield "\ufeff" + csv_line(CASE_SCHEMA.names)
    for case in cases:
        yield csv_line([spreadsheet_cell(value) for value in storable_row(case).values()])


def csv_line(values: Iterable[Any]) -> str:
    """Return the values as one line of CSV."""
    line = io.StringIO()
    csv.writer(line).writerow(list(values))
    return line.getvalue()


def _write_parquet(cases: Iterable[Case], path: Path) -> None:
    rows = iter(storable_row(case) for case in cases)
    with pq.ParquetWriter(path, CASE_SCHEMA, compression="zstd") as writer:
        while group := list(itertools.islice(rows, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=CASE_SCHEMA))
