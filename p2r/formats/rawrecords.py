"""Convert records of Video-R1 and VideoP2R files to `Question` and `Case`, and back.

The fields of a record become fields of `Question` and `Trace`. All other fields go into
`Question.meta`. So do values in an unusual form, for example options in a string. This restores a
record field for field. A raw value in `meta` is written back only if the field still has the same
meaning.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeVar

from p2r.records import PROBLEM_TYPES, Case, Question, Trace
from p2r.template import answer_of, parse, render

Item = TypeVar("Item", Question, Case)
Raw = dict[str, Any]

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
# Keys in meta. ABSENT: the missing fields of the record → their default values. STRINGS: whether
# all values are strings, as in the RL file of VideoP2R.
ABSENT, STRINGS = "_absent", "_strings"
_VIDEOP2R = {"observation", "output", "reward", "select", "clean_version"}

# The reason why a record of a question is not a case.
NO_TRACE = "no trace: `output` and `process` are empty"


class BadValue(ValueError):
    """The reason why a record is bad, in one line."""


# ---- values, in and out


def _text(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        raise BadValue(f"a list or an object instead of text: {_short(value)}")
    return "" if value is None else str(value)


def _number_or_text(identifier: str) -> int | str:
    return int(identifier) if re.fullmatch(r"0|[1-9]\d{0,17}", identifier) else identifier


def _problem(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadValue("no problem text")
    return value


def _problem_type(value: Any) -> str:
    if value not in PROBLEM_TYPES:
        what = f"unknown problem type {_short(value)}" if value else "no problem type"
        raise BadValue(f"{what}: known are {', '.join(PROBLEM_TYPES)}")
    return value


def _data_type(value: Any) -> str:
    if value not in ("video", "image"):
        raise BadValue(f"unknown data type {_short(value)}: known are video, image")
    return value


def _options(value: Any) -> list[str]:
    """Read options from a list, a string with a list (JSON or Python), or None."""
    given = value
    if isinstance(value, str):
        value = literal(value.strip()) if value.strip() else []
    if not isinstance(value, list | tuple):
        if value is None:
            return []
        raise BadValue(f"options are not a list: {_short(given)}")
    return [str(option) for option in value]


def literal(text: str) -> Any:
    """Return the value of a text in JSON or Python syntax; the text itself if it has neither."""
    for evaluate in (json.loads, ast.literal_eval):
        try:
            return evaluate(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def _bare(value: Any) -> str:
    return answer_of(_text(value)) or ""


def _tagged(answer: str) -> str:
    return f"<answer>{answer}</answer>"


def _segment(name: str) -> Callable[[Any], str | None]:
    """Return a reader of a segment, with or without its tags; it returns None if it is empty."""
    tags = re.compile(rf"\s*<{name}>(.*)</{name}>\s*", re.DOTALL)

    def read(value: Any) -> str | None:
        match = tags.fullmatch(_text(value))
        return (match[1] if match else _text(value)).strip() or None

    return read


def _given(value: Any) -> bool:
    """Return whether there is text. In a file of strings, nulls are strings too."""
    return isinstance(value, str) and value.strip() not in ("", "None", "nan", "null")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ---- fields


class _Field(NamedTuple):
    """A field of a record: its attribute, and the functions that read and write it."""

    attribute: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]


_QUESTION = {
    "problem_id": _Field("id", _text, _number_or_text),
    "problem": _Field("problem", _problem, str),
    "data_type": _Field("data_type", _data_type, str),
    "problem_type": _Field("problem_type", _problem_type, str),
    "options": _Field("options", _options, list),
    "solution": _Field("answer", _bare, _tagged),
    "path": _Field("path", _text, str),
    "data_source": _Field("source", _text, str),
}
_SEGMENTS = {
    "observation": _Field("observation", _segment("observation"), _text),
    "process": _Field("think", _segment("think"), _text),
    "answer": _Field("answer", lambda value: answer_of(_text(value)), _text),
}
_OUTPUT = {"output": _Field("text", _text, str)}


def _take(record: Raw, fields: dict[str, _Field], derived: Raw, meta: Raw) -> Raw:
    """Return the attributes of a record's fields; `derived` has the defaults for missing ones.

    `meta` is the complete record. Every value that `_restore` can write without it is removed.
    """
    values, absent = {}, {}
    for key, field in fields.items():
        raw = record.get(key)
        if raw is None and field.attribute in derived:
            values[field.attribute] = absent[key] = derived[field.attribute]
            continue
        values[field.attribute] = field.read(raw)
        written = field.write(values[field.attribute])
        written = str(written) if meta.get(STRINGS) else written
        if type(written) is type(raw) and written == raw:
            del meta[key]
    if absent:
        meta[ABSENT] = meta.get(ABSENT, {}) | absent
    return values


def _restore(source: Question | Trace, fields: dict[str, _Field], meta: Raw) -> Raw:
    """Return the fields of a record, in the raw form of `meta` if the meaning is still the same."""
    record, absent = {}, meta.get(ABSENT, {})
    for key, field in fields.items():
        value = getattr(source, field.attribute)
        if key in absent and absent[key] == value:
            if key in meta:  # it was null
                record[key] = meta[key]
        elif key in meta and _says(field, meta[key], value):
            record[key] = meta[key]
        else:
            record[key] = field.write(value)
    return record


def _says(field: _Field, raw: Any, value: Any) -> bool:
    try:
        return field.read(raw) == value
    except BadValue:
        return False


# ---- from records


def to_question(record: Any, place: int) -> Question:
    """Return the question of a record of any format; `place` is its id if it has none.

    Raises BadValue.
    """
    if isinstance(record, Case):
        return _checked(record).question
    if not isinstance(record, dict):
        raise BadValue(f"not an object: {_short(record)}")
    if record.keys() >= {"question", "trace"}:
        return _checked(Case.model_validate(record)).question
    if "id" in record and record.keys() <= Question.model_fields.keys():
        return _checked(Question.model_validate(record))
    return _read_question(record, place)


def to_case(record: Any, place: int) -> Case:
    """Return the question and the trace of a record of any format.

    Raises BadValue, also if there is no trace.
    """
    if isinstance(record, Case):
        return _checked(record)
    if isinstance(record, dict) and record.keys() >= {"question", "trace"}:
        return _checked(Case.model_validate(record))
    question = to_question(record, place)
    if _given(record.get("output")) or all(
        _given(record.get(k)) for k in ("observation", "process")
    ):
        trace = _read_videop2r_trace(record, question)
    elif _given(record.get("process")):
        trace = _read_video_r1_trace(record, question)
    else:
        raise BadValue(NO_TRACE)
    return Case(question=question, trace=trace)


def _checked(item: Item) -> Item:
    question = item.question if isinstance(item, Case) else item
    _problem(question.problem)
    _problem_type(question.problem_type)
    _refuse_half_characters(question.meta)
    return item


_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def _refuse_half_characters(value: Any, key: str = "") -> None:
    """Refuse lone surrogates: JSON allows them, but files and tokenizers do not."""
    if isinstance(value, str):
        if not value.isascii() and _HALF_CHARACTER.search(value):
            raise BadValue(f"{key} contains a lone surrogate (half a character)")
    elif isinstance(value, dict):
        for name, part in value.items():
            _refuse_half_characters(name, "a key")
            _refuse_half_characters(part, key or name)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_half_characters(part, key)


def _read_question(record: Raw, place: int) -> Question:
    _refuse_half_characters(record)
    suffix = PurePosixPath(_text(record.get("path"))).suffix.lower()
    derived: dict[str, Any] = {
        "id": str(place),
        "data_type": "image" if suffix in IMAGES else "video",
        "options": [],
        "answer": _bare(record.get("answer")),
        "path": "",
        "source": "",
    }
    meta = dict(record)
    if record.keys() & _VIDEOP2R and all(isinstance(value, str) for value in record.values()):
        meta[STRINGS] = True
    return Question(**_take(record, _QUESTION, derived, meta), meta=meta)


def _read_videop2r_trace(record: Raw, question: Question) -> Trace:
    """Return the trace of a VideoP2R record; missing segments are read from its output."""
    output = record["output"] if _given(record.get("output")) else None
    parsed = parse(output)
    derived = {name: getattr(parsed, name) for name in ("observation", "think", "answer")}
    values = _take(record, _SEGMENTS, derived, question.meta)
    whole = render(values["observation"], values["think"] or "", values["answer"] or "")
    values |= _take(record | {"output": output}, _OUTPUT, {"text": whole}, question.meta)
    problems = parse(values["text"]).problems
    return Trace(question_id=question.id, problems=problems, **values)


def _read_video_r1_trace(record: Raw, question: Question) -> Trace:
    """Return the trace of a CoT record: process, a line feed, solution, as Video-R1 trains it."""
    head = _thought(record["process"])
    if head == record["process"]:
        del question.meta["process"]
    text = f"{head}\n{_tagged(question.answer)}"
    parsed = parse(text)
    return Trace(
        question_id=question.id,
        text=text,
        observation=parsed.observation,
        think=parsed.think,
        answer=parsed.answer,
        problems=parsed.problems,
    )


def _thought(process: str) -> str:
    process = process.strip()
    return process if "<think>" in process else f"<think>{process}</think>"


# ---- to records


def to_video_r1(item: Question | Case) -> Raw:
    """Return a Video-R1 record; for a case, `process` is the trace up to the answer."""
    question, trace = _parts(item)
    record = _restore(question, _QUESTION, question.meta)
    if trace is not None:
        head = trace.text.rpartition("<answer>")[0].strip() or trace.text.strip()
        raw = question.meta.get("process")
        record["process"] = (
            raw if isinstance(raw, str) and _given(raw) and _thought(raw) == head else head
        )
    return record | _further(question.meta, record)


def to_videop2r(item: Question | Case, strings: bool | None = None) -> Raw:
    """Return a record of the VideoP2R release.

    `strings`: write every value as a string, as in its RL file. None: do this if all values were
    strings when read.
    """
    question, trace = _parts(item)
    record = _restore(question, _QUESTION, question.meta)
    if trace is not None:
        record |= _restore(trace, _SEGMENTS | _OUTPUT, question.meta)
    record |= _further(question.meta, record)
    strings = question.meta.get(STRINGS, False) if strings is None else strings
    return {key: str(value) for key, value in record.items()} if strings else record


def _parts(item: Question | Case) -> tuple[Question, Trace | None]:
    return (item.question, item.trace) if isinstance(item, Case) else (item, None)


def _further(meta: Raw, record: Raw) -> Raw:
    return {
        key: value
        for key, value in meta.items()
        if key not in record and key not in (ABSENT, STRINGS)
    }
