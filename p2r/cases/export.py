"""Exports a selection of cases, streamed: Parquet, CSV for spreadsheets, or JSON lines."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from p2r.cases.files import CASE_SCHEMA, storable_row, write_rows
from p2r.errors import UserError
from p2r.files.atomic import draft_of, replacing
from p2r.files.jsonlines import to_line
from p2r.files.safe_text import spreadsheet_cell
from p2r.records import Case

KINDS = ("parquet", "csv", "jsonl")


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
            write_rows(draft, map(storable_row, counted))
    else:
        with replacing(path) as file:
            file.writelines(text_lines(counted, kind))
    return next(written)


def text_lines(cases: Iterable[Case], kind: str) -> Iterator[str]:
    """Yield the cases as lines of JSON, or of CSV."""
    if kind == "jsonl":
        for case in cases:
            yield to_line(case.model_dump(mode="json"))
    else:
        yield from csv_lines(CASE_SCHEMA.names, map(storable_row, cases))


def csv_lines(names: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield lines of CSV with a header and a byte order mark.

    Spreadsheets need the byte order mark to recognise UTF-8, and run no cell as a formula.
    """
    line = io.StringIO()
    writer = csv.writer(line)
    yield "\ufeff" + ",".join(names) + "\r\n"
    for row in rows:
        writer.writerow(map(spreadsheet_cell, row.values()))
        yield line.getvalue()
        line.seek(0)
        line.truncate()
