"""The annotation files of a benchmark: read into questions, and checked before a run.

Official files (JSON, JSON lines, Parquet; one file or a folder of one per task), TempCompass's and
Video-MME's nested ones, and Video-R1 style `eval_*.json` are read alike.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2r.errors import DataError, UserError
from p2r.evaluation.benchmark_records import Fields, OtherSubset, read_fields
from p2r.evaluation.benchmarks import Benchmark, find_benchmark
from p2r.evaluation.importers import FORMATS, Imported, task_of_file
from p2r.files.jsonstream import Fault
from p2r.files.storedjson import read_stored
from p2r.formats.rawrecords import IMAGES, BadValue
from p2r.records import Question
from p2r.scoring.answers import extract_choice, parse_number

SUFFIXES = (".json", ".jsonl", ".parquet")
# Text that was decoded with the wrong character set, or holds what could not be decoded.
_MOJIBAKE = re.compile("�|Ã[\x80-\xbf©¨¼]|â€[™œ“”˜]|â\x80|ï»¿")


@dataclass
class Manifest:
    """What a benchmark's files hold: `counts` by what was found, a few `examples` of each oddity.

    `complete`: the number of questions is the expected one, and all media are there.
    """

    benchmark: str
    questions: int
    expected: int | None
    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the whole subset of the paper can be evaluated."""
        return self.questions == self.expected and not self.counts.get("media missing")

    def lines(self) -> list[str]:
        """The report, one line for each count."""
        title = find_benchmark(self.benchmark).title
        known = "" if self.expected is None else f" of {self.expected} expected"
        odd = (f"{n} × {what} ({self.examples[what][0]}, …)" for what, n in self.counts.items())
        return [f"{title}: {self.questions} questions{known}", *odd]


def read_benchmark(
    name: str, path: Path, data_root: Path | None = None
) -> tuple[list[Fields], Manifest]:
    """The questions of a benchmark's files with ids, and the manifest check.

    `data_root`: where the media lie; without it media are not looked for. Of a repeated id the
    first question counts. Raises `UserError` where there is nothing to read.
    """
    entry = find_benchmark(name)
    found: dict[str, Fields] = {}
    notes = Imported()
    for place, (record, task) in enumerate(_records(entry, path)):
        try:
            if isinstance(record, Fault):
                raise BadValue(record.reason)
            fields = read_fields(entry.name, record, task)
            if not fields.problem.strip():
                raise BadValue("no question text")
        except OtherSubset as reason:
            notes.note("outside the subset", str(reason))
            continue
        except BadValue as reason:
            notes.note("bad record", f"record {place}: {reason}")
            continue
        fields.id = fields.id or str(place)
        if fields.id in found:
            notes.note("duplicate id", fields.id)
            continue
        found[fields.id] = fields
        for oddity in _oddities(entry, fields):
            notes.note(oddity, fields.id)
        if data_root is not None and not (fields.path and (data_root / fields.path).is_file()):
            notes.note("media missing", fields.path or f"{fields.id}: no path")
    if not found:
        raise UserError(f"{path} holds no question of {entry.title}: it reads {entry.files}")
    pairs = Counter((f.problem, tuple(f.options), f.path) for f in found.values())
    for (problem, _, _), times in pairs.items():
        if times > 1:
            notes.note("same question under several ids", f"{times} × {problem}")
    counts = dict(sorted(notes.counts.items()))
    return list(found.values()), Manifest(
        entry.name, len(found), entry.expected, counts, notes.examples
    )


def _oddities(entry: Benchmark, fields: Fields) -> Iterator[str]:
    if _MOJIBAKE.search("\n".join([fields.problem, fields.truth, *fields.options])):
        yield "garbled characters"
    if not fields.parts.get(entry.axes[0]) and entry.name != "mmvu":
        yield f"no {entry.axes[0]}"
    if not fields.truth:
        yield "no reference answer"
    elif fields.problem_type == "multiple choice":
        if len(fields.options) < 2:
            yield "fewer than two options"
        elif len(set(fields.options)) < len(fields.options):
            yield "the same option twice"
        if extract_choice(fields.truth, fields.options or None) is None:
            yield "the reference answer is no option"
    elif fields.problem_type in ("numerical", "regression") and parse_number(fields.truth) is None:
        yield "the reference answer is no number"


def to_question(name: str, fields: Fields, direct: bool = False) -> Question:
    """The question that is put to a model; the benchmark's own parts are kept in `meta`.

    `direct`: followed by the benchmark's own words that ask for the bare answer.
    """
    ask = find_benchmark(name).ask
    task = fields.parts.get("task", "")
    if name == "vsibench":
        task = "number" if fields.problem_type == "regression" else "choice"
    inside = task in ("multi-choice", "caption_matching")  # the options stand in the question
    problem = fields.problem.split("\n")[0] if inside else fields.problem
    if direct or task == "yes_no":
        problem = f"{problem}\n{ask.get(task, ask.get('', ''))}".strip()
    image = Path(fields.path).suffix.lower() in IMAGES
    return Question(
        id=fields.id or "",
        problem=problem,
        options=[o.rstrip() for o in fields.options],
        problem_type=fields.problem_type,
        data_type="image" if image else "video",
        path=fields.path.removeprefix("./"),
        answer=fields.truth,
        source=name,
        meta={"benchmark": name, "parts": fields.parts},
    )


# ---- files


def _records(entry: Benchmark, path: Path) -> Iterator[tuple[Any, str]]:
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix in SUFFIXES and f.is_file())
    elif not path.is_file():
        raise UserError(f"no file {path}: {entry.title} reads {entry.files}")
    for file in files:
        try:
            yield from _file(entry, file)
        except DataError as error:
            yield Fault(str(error)), ""


def _file(entry: Benchmark, file: Path) -> Iterator[tuple[Any, str]]:
    if file.suffix == ".parquet":
        yield from ((record, task_of_file(file)) for record in _rows(file))
        return
    value = read_stored(file)
    some = next(iter(value), None) if isinstance(value, list) else None
    if entry.name == "tempcompass" and isinstance(value, dict):
        yield from FORMATS["tempcompass"](file, entry.name)
    elif entry.name == "videomme" and isinstance(some, Mapping) and "questions" in some:
        yield from FORMATS["videomme-template"](file, entry.name)
    else:
        task = task_of_file(file) or (file.stem if entry.name == "mvbench" else "")
        for place, record in enumerate(value if isinstance(value, list) else [value]):
            if entry.name == "mvbench" and isinstance(record, Mapping) and "candidates" in record:
                record = {"id": place, **record}
            yield record, task


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, without columns of pictures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            names = [f.name for f in parquet.schema_arrow if not _is_picture(f.type)]
            for batch in parquet.iter_batches(columns=names):
                yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} is no Parquet file ({error})") from None


def _is_picture(kind: Any) -> bool:
    return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
