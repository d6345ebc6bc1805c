"""How a record of a benchmark, official or as others store it, becomes a question.

One reader per benchmark turns a record into `Fields`: of an official annotation file, of a
Video-R1 style file, of a log that carries the annotation along. What is no question of the
paper's subset (open-ended MMVU, subtitles of Video-MME) raises `OtherSubset`, so that it is counted
and never scored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from p2r.evaluation.benchmarks import (
    CHOICE_TYPES,
    DIMENSIONS,
    DURATIONS,
    NUMBER_TYPES,
    TEMPCOMPASS_TASKS,
    TRACKS,
)
from p2r.formats.rawrecords import BadValue, literal
from p2r.scoring.answers import option_texts, parse_number
from p2r.template import answer_of

Record = Mapping[str, Any]
IDS = ("question_id", "problem_id", "id", "qid", "doc_id", "index", "idx", "uid", "sample_id")
TRUTHS = (
    *("truth", "ground_truth", "solution", "gt_answer", "gt-answer", "gt", "answer", "target"),
    *("correct_answer", "correct_option", "correct_choice", "gt_option", "gt_letter", "label"),
    *("gold", "reference"),
)
QUESTIONS = ("question", "problem", "prompt")


class OtherSubset(ValueError):
    """A record of the benchmark that the paper's subset leaves out; the message says which."""


@dataclass
class Fields:
    """What scoring needs of a question: `truth` as bare text, `parts` by axis of the benchmark."""

    id: str | None
    problem: str
    truth: str
    problem_type: str
    options: list[str] = field(default_factory=list)
    parts: dict[str, str] = field(default_factory=dict)
    path: str = ""


def read_fields(benchmark: str, record: Record, task: str = "") -> Fields:
    """The fields of a record; `task` is what the file's name says where the record does not.

    Raises `BadValue` for a record that is none, `OtherSubset` for one outside the subset.
    """
    if not isinstance(record, Mapping):
        raise BadValue(f"no object: {str(record)[:60]!r}")
    nested = record.get("question")
    if isinstance(nested, Mapping):  # a log that carries the annotation under "question"
        record = {**nested, **{key: value for key, value in record.items() if key != "question"}}
    fields = _READERS[benchmark](record, task)
    fields.parts = {axis: value for axis, value in fields.parts.items() if value}
    return fields


def first(record: Record, *keys: str) -> Any:
    """The value of the first key that has one."""
    return next((record[key] for key in keys if record.get(key) not in (None, "")), None)


def text_of(value: Any) -> str:
    """A scalar as text; whole floats without ".0"; nothing as ""."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list | dict):
        raise BadValue(f"a list or an object where text belongs: {str(value)[:60]!r}")
    return "" if value is None else str(value)


def plain_name(text: str) -> str:
    """A task's name as files have it: "Fine-grained Action" is fine_grained_action."""
    return text.strip().replace(" ", "_").replace("-", "_").lower()


# ---- what readers share


def _truth(record: Record) -> str:
    """The reference answer as text; an option's place, counted from 0, as its letter."""
    value = first(record, *TRUTHS)
    value = value[0] if isinstance(value, list) and value else value
    if type(value) is int and 0 <= value < len(options := _options(record)):
        texts = [text.rstrip(".") for text in option_texts(options).values()]
        if str(value) not in texts:
            return ascii_uppercase[value]
    return answer_of(text_of(value)) or ""


def _kind(record: Record, allowed: Sequence[str], *keys: str) -> str:
    """The first value under these keys that is one of those allowed; "" where none is."""
    return next((record[key] for key in keys if record.get(key) in allowed), "")


def _options(record: Record) -> list[str]:
    """Options or choices: a list, an object by letter, or a string of either."""
    value = first(record, "options", "choices", "candidates")
    if isinstance(value, str):
        value = literal(value.strip())
    if isinstance(value, Mapping):
        return [f"{key}. {text}" for key, text in value.items() if text not in (None, "")]
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadValue(f"options are no list: {str(value)[:60]!r}")
    return list(map(str, value))


def lettered(options: Sequence[str]) -> list[str]:
    """The options with a letter each; those that have one keep it."""
    texts = option_texts(options)
    if all(re.match(rf"\s*\(?{k}[.):]", o) for k, o in zip(texts, options, strict=False)):
        return list(options)
    return [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, options, strict=False)]


def _base(record: Record, problem_type: str, **parts: Any) -> Fields:
    identity = first(record, *IDS)
    return Fields(
        id=None if identity is None else text_of(identity),
        problem=text_of(first(record, *QUESTIONS)),
        truth=_truth(record),
        problem_type=problem_type,
        options=_options(record),
        parts={axis.replace("_", " "): text_of(value) for axis, value in parts.items()},
        path=text_of(first(record, "path", "video_path", "video")),
    )


def _given_type(record: Record, default: str) -> str:
    """The problem type that a Video-R1 style record gives."""
    given = record.get("problem_type")
    return given if isinstance(given, str) and given else default


# ---- one reader per benchmark


def _vsibench(record: Record, task: str) -> Fields:
    types = CHOICE_TYPES + NUMBER_TYPES
    kind = _kind(record, types, "question_type", "original_question_type", "task", "type")
    kind = kind or text_of(first(record, "question_type", "original_question_type", "task"))
    kind = kind or (task if task in types else "")
    if kind in types:
        problem_type = "multiple choice" if kind in CHOICE_TYPES else "regression"
    elif kind in ("", "None", "multiple choice", "regression"):
        choice = _options(record) or not parse_number(_truth(record))
        problem_type, kind = _given_type(record, "multiple choice" if choice else "regression"), ""
    else:
        raise OtherSubset(f"question type {kind!r} is none of VSI-Bench")
    fields = _base(record, problem_type, question_type=kind)
    if "scene_name" in record and "dataset" in record:
        fields.path = f"{record['dataset']}/{record['scene_name']}.mp4"
    return fields


def _videommmu(record: Record, task: str) -> Fields:
    kind = text_of(record.get("question_type"))
    truth = _truth(record)
    lettered_truth = not kind and re.fullmatch("[A-J]", truth)  # stored without its options
    choice = kind in ("", "multiple-choice", "perception") and _options(record)
    open_ended = not choice and not lettered_truth
    number = parse_number(truth) is not None
    default = ("numerical" if number else "free-form") if open_ended else "multiple choice"
    track = text_of(first(record, "track", "subset", "split_name")) or task
    track = next((name for name in TRACKS if name.lower() in track.lower()), "")
    identity = text_of(record.get("id"))
    subject = re.fullmatch(r"[^_]+_(.+?)_\d+", identity)
    fields = _base(
        record,
        _given_type(record, default),
        track=track,
        discipline=_DISCIPLINE.get(subject[1], subject[1]) if subject else "",
    )
    fields.options = lettered(fields.options) if fields.options else []
    fields.path = fields.path or (f"{identity}.mp4" if identity else "")
    if identity and track and fields.id == identity:  # the tracks share the videos, thus the ids
        fields.id = f"{track}/{identity}"
    return fields


def _mmvu(record: Record, task: str) -> Fields:
    kind = text_of(record.get("question_type")) or _given_type(record, "multiple choice")
    if kind not in ("multiple-choice", "multiple choice"):
        raise OtherSubset(f"{kind} question: the subset is multiple choice")
    address = text_of(first(record, "video_path", "video", "path"))
    metadata = record.get("metadata")
    subject = text_of(metadata.get("subject")) if isinstance(metadata, Mapping) else ""
    pieces = address.split("?")[0].split("/")
    subject = (subject or (pieces[-2] if len(pieces) > 1 else "")).replace(" ", "_")
    discipline = next((name for name, ones in _MMVU.items() if subject in ones), "")
    fields = _base(
        record,
        "multiple choice",
        discipline=discipline,
        subject=subject if discipline else "",
    )
    if "://" in address:
        fields.path = "/".join(pieces[-2:])
    return fields


def _vcrbench(record: Record, task: str) -> Fields:
    multiple = record.get("multiple-choice", record.get("multiple_choice"))
    kind = _given_type(record, "multiple choice")
    if multiple in (False, "False", "false") or kind != "multiple choice":
        raise OtherSubset("open-ended question: the subset is multiple choice")
    seconds = parse_number(text_of(record.get("duration")))
    bucket = "" if seconds is None else "0-60" if seconds <= 60 else "300+"
    bucket = "60-300" if seconds is not None and 60 < seconds <= 300 else bucket
    return _base(record, "multiple choice", dimension=record.get("dimension"), duration=bucket)


def _mvbench(record: Record, task: str) -> Fields:
    named = text_of(first(record, "task_type", "task", "sub_task", "task_name")) or task
    fields = _base(record, "multiple choice", task=plain_name(named))
    candidates = _options(record)
    if fields.truth in candidates:
        fields.truth = ascii_uppercase[candidates.index(fields.truth)]
    elif match := re.match(r"\(([A-Z])\)", fields.truth):
        fields.truth = match[1]
    fields.options = lettered(candidates)
    if fields.id and fields.parts["task"]:  # ids count within a task
        fields.id = f"{fields.parts['task']}/{fields.id}"
    return fields


def _tempcompass(record: Record, task: str) -> Fields:
    dimension = text_of(first(record, "dim", "dimension", "aspect"))
    if dimension and dimension not in DIMENSIONS:
        raise OtherSubset(f"dimension {dimension!r} is none of TempCompass")
    aspect = record.get("fine_grained")
    fields = _base(record, "multiple choice", dimension=dimension, aspect=aspect)
    lines = fields.problem.split("\n")[1:]
    kind = text_of(first(record, "task", "task_type")) or task
    if "chatgpt-answer" in record:  # a rated caption, which comes without its question
        kind = "captioning"
    if kind not in TEMPCOMPASS_TASKS:
        kind = _tempcompass_task(fields, lines)
    fields.parts["task"] = kind
    given = first(record, *TRUTHS)
    if isinstance(given, str) and "<answer>" not in given:
        fields.truth = given  # as written: the script compares whole lines
    if kind in ("multi-choice", "caption_matching"):
        fields.options = fields.options or [line for line in lines if line.strip()]
    else:
        fields.problem_type = "free-form"
    if "video_id" in record:
        fields.path = f"{record['video_id']}.mp4"
        fields.id = fields.id and f"{kind}/{fields.id}"
    return fields


def _tempcompass_task(fields: Fields, lines: Sequence[str]) -> str:
    """Which of the four tasks a question is, by its form."""
    if fields.truth.lower() in ("yes", "no"):
        return "yes_no"
    if "Generated Caption" in fields.problem or "Information A" in fields.problem:
        return "captioning"
    captions = lines and all(re.match(r"(?:Caption|Option|Sentence) \w+: ", s) for s in lines)
    return "caption_matching" if captions else "multi-choice"


def _videomme(record: Record, task: str) -> Fields:
    if record.get("subtitles") in (True, "true", "True") or record.get("missing") is True:
        raise OtherSubset("with subtitles" if record.get("subtitles") else "marked as missing")
    duration = text_of(first(record, "duration", "duration_category", "video_type")).lower()
    if parse_number(duration) is not None:  # seconds, which are no category
        duration = ""
    duration = duration or (task if task in DURATIONS else "")
    if duration and duration not in DURATIONS:
        raise OtherSubset(f"duration {duration!r} is none of Video-MME")
    fields = _base(
        record,
        "multiple choice",
        duration=duration,
        domain=first(record, "domain", "video_category", "category"),
        task=first(record, "task_type", "task_category"),
        **{"sub-category": first(record, "sub_category", "video_subcategory")},
    )
    if "videoID" in record and not fields.path:
        fields.path = f"data/{record['videoID']}.mp4"
    return fields


def _playground(record: Record, task: str) -> Fields:
    kind = _given_type(record, "multiple choice" if _options(record) else "free-form")
    return _base(record, kind, problem_type=kind)


_READERS: dict[str, Callable[[Record, str], Fields]] = {
    "vsibench": _vsibench,
    "videommmu": _videommmu,
    "mmvu": _mmvu,
    "vcrbench": _vcrbench,
    "mvbench": _mvbench,
    "tempcompass": _tempcompass,
    "videomme": _videomme,
    "playground": _playground,
}

# fmt: off
_SUBJECTS = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy", "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Sociology", "Psychology"),
    "Tech and Engineering": (
        "Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics",
        "Energy_and_Power", "Materials", "Mechanical_Engineering",
    ),
}
_DISCIPLINE = {subject: name for name, subjects in _SUBJECTS.items() for subject in subjects}
_MMVU = {
    "Science": (
        "Biology", "Chemistry", "Modern_Physics", "Astronomy", "Geography", "Materials_Science",
        "Neurobiology", "Electromagnetism", "Thermodynamics", "Mechanics",
    ),
    "Engineering": (
        "Civil_Engineering", "Electrical_Engineering", "Mechanical_Engineering",
        "Biomedical_Engineering", "Electronics_and_Communication", "Computer_Science",
    ),
    "Healthcare": (
        "Clinical_Medicine", "Basic_Medicine", "Preventive_Medicine", "Pharmacy", "Dentistry",
    ),
    "Humanities and Social Science": (
        "Art", "Literature", "History", "Law", "Economics", "Management",
    ),
}
# fmt: on
