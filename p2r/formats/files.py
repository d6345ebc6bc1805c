"""Files of questions and of traces, in and out, without losing a field.

| file             | what it is                                                                  |
|------------------|-----------------------------------------------------------------------------|
| Video-R1         | a JSON list; traces (CoT) in `process` and `solution`                       |
| VideoP2R release | gzip-compressed JSON lists in parts; traces in `observation`, `process`,    |
|                  | `answer` and, whole, in `output`; every value of the RL file is a string    |
| p2r              | JSON lines of `Question` or of `Case`; `cases.parquet`                      |

Reading is lazy and in constant memory. A bad record is reported, with file, index and reason, and
skipped; a file that breaks off is reported after what is readable. How a record becomes a question
or a case, and how nothing of it is lost, is said in `p2r.formats.rawrecords`.
"""

from __future__ import annotations

import glob
import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from p2r.errors import DataError
from p2r.files.atomic import replacing
from p2r.files.jsonlines import to_line
from p2r.files.lenient_json import Fault, NotJson, read_records
from p2r.formats.rawrecords import BadValue, Item, to_case, to_question, to_video_r1, to_videop2r
from p2r.records import ROW_TYPES, Case, Question

logger = logging.getLogger(__name__)

_LOGGED = 20  # bad records that are logged one by one; the count of all follows


class BadRecord(NamedTuple):
    """A record that was skipped, or a file that is not whole; `index` counts within the file."""

    file: str
    index: int | None
    reason: str

    def __str__(self) -> str:
        place = "" if self.index is None else f", record {self.index}"
        return f"{self.file}{place}: {self.reason}"


OnBad = Callable[[BadRecord], None]


class BadRecordLog:
    """Reports bad records to the log: the first few one by one, and their number at the end.

    `reasons` counts them.
    """

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()

    def __call__(self, bad: BadRecord) -> None:
        self.reasons[bad.reason] += 1
        if self.reasons.total() <= _LOGGED:
            logger.warning("skipped %s", bad)

    def end(self, records: int) -> None:
        """All `records` have been read."""
        if self.reasons:
            logger.warning("%d bad records among %d", self.reasons.total(), records)


def read_questions(path: str | Path, on_bad: OnBad | None = None) -> Iterator[Question]:
    """The questions of a file, of all parts of a release, of a folder or of a glob, one at a time.

    Given any part (`NAME.part1of3.json.gz`) or `NAME.json.gz`, all parts are read in order. The id
    is the `problem_id`, or the place over all parts where there is none. What a file knows of
    traces stays in `meta`. `on_bad` gets every bad record; by default they are logged.

    Raises FileNotFoundError, or DataError where a file is no JSON at all.
    """
    return _read(_find_files(Path(path)), to_question, on_bad)


def read_cases(path: str | Path, on_bad: OnBad | None = None) -> Iterator[Case]:
    """The traces of a file with their questions; parts and faults as in `read_questions`.

    A record without a trace is a bad record.
    """
    return _read(_find_files(Path(path)), to_case, on_bad)


def write_video_r1(items: Iterable[Question | Case], path: str | Path) -> Path:
    """Write a Video-R1 JSON list, compressed if `path` ends in .gz; cases as CoT records."""
    return _write_list(map(to_video_r1, items), Path(path))


def write_videop2r(
    items: Iterable[Question | Case], path: str | Path, parts: int = 1, strings: bool | None = None
) -> list[Path]:
    """Write the VideoP2R release's JSON, compressed if `path` ends in .gz; returns the files.

    With several `parts`, NAME.json.gz becomes NAME.part1of3.json.gz and so on, of equal length.
    `strings`: every value as a string, as in the RL file; None: if they were when read.
    """
    if parts < 1:
        raise ValueError(f"parts must be at least 1, not {parts}")
    path = Path(path)
    records = (to_videop2r(item, strings) for item in items)
    if parts == 1:
        return [_write_list(records, path)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile("w+", dir=path.parent) as spool:  # to learn how many there are
        count = 0
        for record in records:
            spool.write(to_line(record))
            count += 1
        spool.seek(0)
        ends = [count * k // parts for k in range(parts + 1)]
        lines = map(json.loads, iter(spool.readline, ""))
        return [
            _write_list((next(lines) for _ in range(last - first)), part)
            for part, first, last in zip(_name_parts(path, parts), ends, ends[1:], strict=False)
        ]


# ---- finding files

_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")
_PART = re.compile(r"(?P<name>.+)\.part(?P<part>\d{1,4})of(?P<parts>\d{1,4})(?P<suffix>\..+)?")


def _find_files(path: Path) -> list[Path]:
    """The files to read, in order; a missing part is among them."""
    if path.is_file():
        return _parts_beside(path)
    if path.is_dir():
        return _files_of_folder(path)
    found = sorted(map(Path, glob.glob(str(path))), key=_part_order)
    if found:
        return found
    name, suffix = _split_suffix(path)
    for part in path.parent.glob(f"{glob.escape(name)}.part*of*{glob.escape(suffix)}"):
        return _parts_beside(part)
    raise FileNotFoundError(f"no such file: {path}")


def _files_of_folder(folder: Path) -> list[Path]:
    if (folder / "cases.parquet").is_file():
        return [folder / "cases.parquet"]
    files = [file for file in folder.iterdir() if file.name.endswith(_SUFFIXES)]
    sets = {tuple(_parts_beside(file)) for file in files}
    if len(sets) != 1:
        names = ", ".join(sorted(paths[0].name for paths in sets)) or "none"
        raise DataError(f"{folder} must hold one set of questions or cases, it holds {names}")
    return list(sets.pop())


def _parts_beside(path: Path) -> list[Path]:
    match = _PART.fullmatch(path.name)
    if not match:
        return [path]
    whole = path.with_name(match["name"] + (match["suffix"] or ""))
    return _name_parts(whole, int(match["parts"]))


def _name_parts(path: Path, parts: int) -> list[Path]:
    name, suffix = _split_suffix(path)
    return [path.with_name(f"{name}.part{k}of{parts}{suffix}") for k in range(1, parts + 1)]


def _split_suffix(path: Path) -> tuple[str, str]:
    known = [suffix for suffix in _SUFFIXES if path.name.endswith(suffix)]
    suffix = known[0] if known else path.suffix
    return path.name.removesuffix(suffix), suffix


def _part_order(path: Path) -> tuple[str, int]:
    match = _PART.fullmatch(path.name)
    return (str(path.with_name(match["name"])), int(match["part"])) if match else (str(path), 0)


# ---- reading


def _read(
    files: list[Path], convert: Callable[[Any, int], Item], on_bad: OnBad | None
) -> Iterator[Item]:
    report = on_bad or BadRecordLog()
    place = 0
    for file in files:
        if not file.exists():
            report(BadRecord(str(file), None, "this part is missing"))
            continue
        for index, record in enumerate(_records(file)):
            try:
                if isinstance(record, Fault):
                    raise BadValue(record.reason)
                item = convert(record, place)
            except ValueError as error:
                report(BadRecord(str(file), index, _reason(error)))
            else:
                yield item
            place += 1
    if isinstance(report, BadRecordLog):
        report.end(place)


def _records(file: Path) -> Iterator[Any]:
    try:
        yield from _rows(file) if file.suffix == ".parquet" else read_records(file)
    except NotJson as error:
        raise DataError(f"{file} is no JSON list and no JSON lines: {error}") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} is no Parquet file of cases: {error}") from None


def _rows(file: Path) -> Iterator[Case | Fault]:
    with pq.ParquetFile(file) as parquet:
        columns = [name for name in ROW_TYPES if name in parquet.schema_arrow.names]
        if "question.problem" not in columns:
            raise pa.ArrowInvalid("it has no column question.problem")
        for batch in parquet.iter_batches(batch_size=512, columns=columns):
            for row in batch.to_pylist():
                try:
                    yield Case.from_row(row)
                except (ValueError, TypeError) as error:
                    yield Fault(_reason(error))


def _reason(error: Exception) -> str:
    """One line on why a record is bad."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return " ".join(str(error).split())


# ---- writing


def _write_list(records: Iterable[dict[str, Any]], path: Path) -> Path:
    with replacing(path) as file:
        separator = "["
        for record in records:
            file.write(f"{separator}\n{to_line(record)[:-1]}")
            separator = ","
        file.write("[]\n" if separator == "[" else "\n]\n")
    return path
