"""Read and write files of questions and traces without losing a field.

| file             | content                                                                     |
|------------------|-----------------------------------------------------------------------------|
| Video-R1         | a JSON list; traces (CoT) in `process` and `solution`                       |
| VideoP2R release | gzip-compressed JSON lists in parts; traces in `observation`, `process`,    |
|                  | `answer` and, whole, in `output`; every value of the RL file is a string    |
| p2r              | JSON lines of `Question` or of `Case`; `cases.parquet`                      |
| other projects   | records of any shape in `p2r.formats.shapes`: JSON lists, JSON lines, an    |
|                  | object that holds the list, Parquet files of the hub                        |

Records are read one at a time, in constant memory (an object with a list is read whole). A bad
record is reported with file, index and reason, and skipped. A file that breaks off is reported
after its readable part. `p2r.formats.rawrecords` turns a record into a question or a case and back.
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
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from p2r.errors import DataError
from p2r.files.atomic import replacing
from p2r.files.jsonlines import to_line
from p2r.files.lenient_json import (
    LISTS,
    Fault,
    NotJson,
    Place,
    fault_inside,
    holds_records,
    is_one_object,
    read_records,
    read_value,
    split_fault,
)
from p2r.formats.fields import INFERRED
from p2r.formats.media import MEDIA_KEYS
from p2r.formats.places import as_letter, find_base, place_of
from p2r.formats.rawrecords import is_ours, to_case, to_question, to_video_r1, to_videop2r
from p2r.formats.shapes import shape_of
from p2r.formats.values import BadValue, usual_keys
from p2r.records import ROW_TYPES, Case, Question

logger = logging.getLogger(__name__)
Item = TypeVar("Item", Question, Case)

_DEEPEST = 8  # levels of lists and objects around a record
_LOGGED = 20  # Bad records that are logged one by one; then only their number is logged.


class BadRecord(NamedTuple):
    """A skipped record, or an incomplete file.

    `index` counts the records of the file from 0. `line` counts JSON lines from 1. Messages name
    the line, or else the record, both from 1.
    """

    file: str
    index: int | None  # type: ignore[assignment]  # of the record, not tuple.index
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        place = "" if self.index is None else f", record {self.index + 1}"
        place = place if self.line is None else f", line {self.line}"
        return f"{self.file}{place}: {self.reason}"


OnBad = Callable[[BadRecord], None]


class BadRecordLog:
    """Logs the first bad records one by one, and the number of all at the end.

    `reasons` counts the bad records of each reason.
    """

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()

    def __call__(self, bad: BadRecord) -> None:
        self.reasons[bad.reason] += 1
        if self.reasons.total() <= _LOGGED:
            logger.warning("skipped %s", bad)

    def end(self, records: int) -> None:
        """Log the number of bad records, after all `records` were read."""
        if self.reasons:
            logger.warning("%d bad records among %d", self.reasons.total(), records)


def read_questions(path: str | Path, on_bad: OnBad | None = None) -> Iterator[Question]:
    """Yield the questions of a file, a release in parts, a folder or a glob, one at a time.

    For any part (`NAME.part1of3.json.gz`) or `NAME.json.gz`, all parts are read in order. The id is
    the `problem_id`, or the position over all parts if there is none. Fields about traces stay in
    `meta`. `on_bad` gets every bad record; by default they are logged.

    Raises FileNotFoundError, or DataError if a file is not JSON.
    """
    return _read(_find_files(Path(path)), to_question, on_bad)


def read_cases(path: str | Path, on_bad: OnBad | None = None) -> Iterator[Case]:
    """Yield the traces of a file with their questions; see `read_questions` for parts and faults.

    A record without a trace is a bad record.
    """
    return _read(_find_files(Path(path)), to_case, on_bad)


def write_video_r1(items: Iterable[Question | Case], path: str | Path) -> Path:
    """Write a Video-R1 JSON list, compressed if `path` ends in .gz. Cases become CoT records."""
    return _write_list(map(to_video_r1, items), Path(path))


def write_videop2r(
    items: Iterable[Question | Case], path: str | Path, parts: int = 1, strings: bool | None = None
) -> list[Path]:
    """Write files like the VideoP2R release, compressed if `path` ends in .gz; return the files.

    With several `parts`, NAME.json.gz becomes NAME.part1of3.json.gz and so on, with equal numbers
    of records. `strings`: write every value as a string, as in the RL file. None: do this if all
    values were strings when read.
    """
    if parts < 1:
        raise ValueError(f"parts must be at least 1, not {parts}")
    path = Path(path)
    records = (to_videop2r(item, strings) for item in items)
    if parts == 1:
        return [_write_list(records, path)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile("w+", dir=path.parent) as spool:  # to count the records first
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
_HUB_PART = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<parts>\d{5})(?P<suffix>\..+)")


def _find_files(path: Path) -> list[Path]:
    """Return the files to read, in order, including missing parts."""
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
        raise DataError(
            f"{folder} must contain one set of questions or cases, but it contains {names}"
        )
    return list(sets.pop())


def _parts_beside(path: Path) -> list[Path]:
    if match := _HUB_PART.fullmatch(path.name):
        count = int(match["parts"])
        names = (f"{match['name']}-{k:05}-of-{count:05}{match['suffix']}" for k in range(count))
        return [path.with_name(name) for name in names]
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
    inferred: Counter[str] = Counter()
    base: list[int | None] = []  # found out only for a file that has such an answer
    place = 0
    for file in files:
        if not file.exists():
            report(BadRecord(str(file), None, "this part is missing"))
            continue
        at = Place()
        for index, record in enumerate(_records(file, at)):
            line = record.line if isinstance(record, Fault) else at.line
            try:
                item = _convert(record, place, convert)
                question = item.question if isinstance(item, Case) else item
                if not is_ours(record) and (answer := place_of(question)) is not None:
                    base = base or [find_base(_questions(files))]
                    question = as_letter(question, answer, base[0])
                    item = _with_question(item, question)
            except ValueError as error:
                report(BadRecord(str(file), index, _reason(error), line))
            else:
                inferred.update(question.meta.get(INFERRED, ()))
                yield item
            place += 1
    for what, count in inferred.items():
        logger.warning("inferred for %d of %d questions: %s", count, place, what)
    if isinstance(report, BadRecordLog):
        report.end(place)


def _convert(record: Any, place: int, convert: Callable[[Any, int], Item]) -> Item:
    if isinstance(record, Fault):
        raise BadValue(record.reason)
    if isinstance(record, dict) and (fault := fault_inside(record)):
        raise BadValue(fault.reason)
    return convert(record, place)


def _with_question(item: Item, question: Question) -> Item:
    if isinstance(item, Case):
        return item.model_copy(update={"question": question})
    return question


def _questions(files: list[Path]) -> Iterator[Question]:
    """Yield the readable questions of all files, before their answers are changed."""
    for file in filter(Path.exists, files):
        for record in _records(file):
            try:
                if not is_ours(record):
                    yield _convert(record, 0, to_question)
            except ValueError:
                continue


def _records(file: Path, at: Place | None = None) -> Iterator[Any]:
    """Yield the records of a file. `at` is kept up to date for JSON lines."""
    try:
        yield from _rows(file) if _is_parquet(file) else _json_records(file, at or Place())
    except NotJson as error:
        raise DataError(f"{file} has neither a JSON list nor JSON lines: {error}") from None
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} cannot be read as a Parquet file: {error}") from None


def _is_parquet(file: Path) -> bool:
    with open(file, "rb") as opened:
        return file.suffix == ".parquet" or opened.read(4) == b"PAR1"


def _json_records(file: Path, at: Place) -> Iterator[Any]:
    """Yield the records of a JSON list, of JSON lines, or inside an object."""
    if is_one_object(file):
        try:
            value = read_value(file)
        except DataError:
            pass  # read_records says why
        else:
            value, faults = split_fault(value) if isinstance(value, dict) else (value, [])
            yield from _inside(value)
            yield from faults
            return
    records = read_records(file, at)
    for first in records:
        if isinstance(first, list) or (isinstance(first, dict) and not _is_record(first)):
            at.line = None
            yield from _inside(first)
        else:
            yield first
            yield from records


def _inside(value: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the records inside a value: a list, an object with lists, or an object by id.

    An object that holds no records is yielded itself.
    """
    if isinstance(value, list) and depth < _DEEPEST:
        for part in value:
            yield from _inside(part, depth + 1)
        return
    if not isinstance(value, dict) or _is_record(value) or depth >= _DEEPEST:
        yield value
        return
    lists = {key: part for key, part in value.items() if holds_records(part)}
    known = [key for key in ("questions", "annotations", *LISTS) if key in lists]
    objects = {key: part for key, part in value.items() if isinstance(part, dict)}
    if lists:
        # A clip with its questions: the questions get its media and bounds.
        about = {k: v for k, v in value.items() if not isinstance(v, list | dict)}
        about = about if usual_keys(about).keys() & {*MEDIA_KEYS} else {}
        for key in known[:1] or lists:
            for part in lists[key]:
                part = {**about, **part} if isinstance(part, dict) else part
                yield from _inside(part, depth + 1)
    elif objects:
        for key, part in objects.items():
            if _is_record(part):
                yield part if "id" in part else {"id": key, **part}
            else:
                yield from _inside(part, depth + 1)
    else:
        yield value


def _is_record(value: dict[str, Any]) -> bool:
    return value.keys() >= {"question", "trace"} or shape_of(value) is not None


def _rows(file: Path) -> Iterator[Any]:
    """Yield the cases of a Parquet file of p2r, or the records of another one."""
    with pq.ParquetFile(file) as parquet:
        columns = [name for name in ROW_TYPES if name in parquet.schema_arrow.names]
        if "question.problem" not in columns:
            for batch in parquet.iter_batches(batch_size=64):  # rows may hold whole media files
                yield from batch.to_pylist()
            return
        for batch in parquet.iter_batches(batch_size=512, columns=columns):
            for row in batch.to_pylist():
                try:
                    yield Case.from_row(row)
                except (ValueError, TypeError) as error:
                    yield Fault(_reason(error))


def _reason(error: Exception) -> str:
    """Return the reason why a record is bad, in one line."""
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
