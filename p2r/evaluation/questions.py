"""The questions of a benchmark: read from its annotation files, checked, and put to a model.

These files are read: official ones (JSON, JSON lines or Parquet, one file or a folder of files),
and Video-R1 style `eval_*.json`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2r.errors import DataError, UserError
from p2r.evaluation.benchmark import Benchmark, Fields, OtherSubset, Raw
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.identity import identity_of
from p2r.evaluation.places import convert_places
from p2r.evaluation.records import read_fields
from p2r.evaluation.sources import Notes, read_official
from p2r.files.lenient_json import Fault
from p2r.files.media import media_exists
from p2r.formats.media import IMAGES
from p2r.formats.values import BadValue
from p2r.records import WINDOW, Question, more_media
from p2r.scoring.answers import extract_choice, parse_number

SUFFIXES = (".json", ".jsonl", ".parquet")
# The path of a question without one: it is unreadable, not answered without its video.
NO_PATH = "no media path in the record"
# Text that was decoded with the wrong character set, or that contains undecodable characters.
_MOJIBAKE = re.compile("�|Ã[\x80-\xbf©¨¼]|â€[™œ“”˜]|â\x80|ï»¿")


@dataclass
class Manifest:
    """What a benchmark's files hold: `counts` by finding, with a few `examples` of each.

    `complete` is true if all expected questions and all media are there.
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
        """Return the report: one line for the total and one for each count."""
        title = find_benchmark(self.benchmark).title
        known = "" if self.expected is None else f" of {self.expected} expected"
        odd = (f"{n} × {what} ({self.examples[what][0]}, …)" for what, n in self.counts.items())
        return [f"{title}: {self.questions} questions{known}", *odd]


def read_benchmark(
    name: str, path: Path, data_root: Path | None = None
) -> tuple[list[Fields], Manifest]:
    """Read the questions of a benchmark's files and check them.

    With `data_root`, missing media are counted. The same id with another question is another
    question. Of a true repeat, the first one is used. Raises `UserError` if there is no question to
    read.
    """
    entry = find_benchmark(name)
    found: dict[tuple[Any, ...], Fields] = {}
    notes = Notes()
    for place, (record, task) in enumerate(_records(entry, path)):
        try:
            if isinstance(record, Fault):
                notes.note("bad record", str(record))
                continue
            fields = read_fields(entry, record, task)
            if not fields.problem.strip():
                raise BadValue("no question text")
        except OtherSubset as reason:
            notes.note("outside the subset", str(reason))
            continue
        except BadValue as reason:
            notes.note("bad record", f"record {place + 1}: {reason}")
            continue
        fields.id = fields.id or str(place)
        identity = (*identity_of(fields), *_shown(fields))
        if identity in found:
            notes.note("duplicate id", fields.id)
            continue
        found[identity] = fields
        if data_root is not None:
            fields.path = _find_file(entry, fields, data_root)
        for file in (fields.path, *(medium.path for medium in fields.more_media)):
            if data_root is not None and not media_exists(data_root, file):
                notes.note("media missing", file or f"{fields.id}: no path")
    if not found:
        why = "".join(f"; {n} × {what} ({notes.example(what)})" for what, n in notes.counts.items())
        raise UserError(f"{path} has no question of {entry.title}: give {entry.files}{why}")
    if (note := convert_places(list(found.values()))) is not None:
        notes.note(note, path.name)
    for fields in found.values():
        for oddity in _oddities(entry, fields):
            notes.note(oddity, fields.id or "")
    for asked, times in Counter(fields.id for fields in found.values()).items():
        if times > 1:
            notes.note("id with several questions", f"{asked} ({times} questions)")
    pairs = Counter((f.problem, tuple(f.options), *_shown(f)) for f in found.values())
    for (problem, *_), times in pairs.items():
        if times > 1:
            notes.note("same question under several ids", f"{times} × {problem}")
    counts = dict(sorted(notes.counts.items()))
    return list(found.values()), Manifest(
        entry.name, len(found), entry.expected, counts, notes.examples
    )


def _find_file(entry: Benchmark, fields: Fields, root: Path) -> str:
    """Return the path of a question's media file, also if the record leaves out its folder."""
    folder = entry.folder_of(fields)
    places = (fields.path, f"{folder}/{fields.path}", f"video/{folder}/{fields.path}")
    if not folder or not fields.path:
        return fields.path
    return next((place for place in places if media_exists(root, place)), fields.path)


def _shown(fields: Fields) -> tuple[str, ...]:
    """Return what tells the media of two questions apart: files and bounds of clips."""
    return fields.path, str(sorted(fields.window.items())), str(fields.more_media)


def _oddities(entry: Benchmark, fields: Fields) -> Iterator[str]:
    if _MOJIBAKE.search("\n".join([fields.problem, fields.truth, *fields.options])):
        yield "garbled characters"
    if not fields.parts.get(entry.axes[0]) and not entry.parts_optional:
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
    """Return the question for a model. The benchmark's own parts go to `meta`.

    `direct`: add the benchmark's own words that ask for a bare answer.
    """
    entry = find_benchmark(name)
    image = Path(fields.path).suffix.lower() in IMAGES
    return Question(
        id=fields.id or "",
        problem=entry.ask(fields, direct),
        options=[option.rstrip() for option in fields.options],
        problem_type=fields.problem_type,
        data_type="image" if image else "video",
        path=fields.path.removeprefix("./") or NO_PATH,
        answer=fields.truth,
        source=entry.name,
        meta={"benchmark": entry.name, "parts": fields.parts}
        | ({WINDOW: fields.window} if fields.window else {})
        | more_media(fields.more_media),
    )


def to_questions(name: str, found: Sequence[Fields], direct: bool = False) -> list[Question]:
    """Return the questions for a model. Their ids are unique: a repeated id gets "#2", "#3" …"""
    questions = [to_question(name, fields, direct) for fields in found]
    times: Counter[str] = Counter()
    for place, question in enumerate(questions):
        times[question.id] += 1
        if times[question.id] > 1:
            changed = {"id": f"{question.id}#{times[question.id]}"}
            questions[place] = question.model_copy(update=changed)
    return questions


def _records(entry: Benchmark, path: Path) -> Iterator[Raw]:
    files = [path]
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.suffix in SUFFIXES and f.is_file())
    elif not path.is_file():
        raise UserError(f"no file {path}: {entry.title} reads {entry.files}")
    for file in files:
        try:
            yield from read_official(entry, file)
        except DataError as error:
            yield Fault(str(error)), ""
