"""Convert records of question and trace files to `Question` and `Case`, and back.

`p2r.formats.shapes` gives a record of another shape the keys of Video-R1. These become fields of
`Question` and `Trace`. All other fields go into `Question.meta`. So do values in an unusual form,
for example options in a string. This restores a record field for field. A raw value in `meta` is
written back only if the field still has the same meaning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from p2r.formats.media import IMAGES, NO_MEDIA, path_of, place_media, read_media, write_media
from p2r.formats.shapes import unify
from p2r.formats.values import (
    BadValue,
    Raw,
    blank,
    data_type_of,
    infer_problem_type,
    literal,
    names_option,
    one,
    options_of,
    problem_of,
    problem_type_of,
    short,
    split_options,
    text_of,
)
from p2r.records import (
    BEGIN,
    MORE_MEDIA,
    PROBLEM_TYPES,
    WINDOW,
    Case,
    Medium,
    Question,
    Trace,
    more_media,
)
from p2r.template import answer_of, parse, render

__all__ = ["IMAGES", "BadValue", "literal", "to_case", "to_question", "to_video_r1", "to_videop2r"]

Item = TypeVar("Item", Question, Case)

# Keys in meta. ABSENT: the missing fields of the record → their default values. STRINGS: whether
# all values are strings, as in the RL file of VideoP2R. INFERRED: what the record does not say.
ABSENT, STRINGS, INFERRED = "_absent", "_strings", "_inferred"
EMBEDDED = "p2r"  # the column in which exports keep the whole record as JSON
_VIDEOP2R = {"observation", "output", "reward", "select", "clean_version"}
_OURS = {"id", "problem", "problem_type", "data_type"}

# The reason why a record of a question is not a case.
NO_TRACE = "no trace: `output` and `process` are empty"


_CHOICE = "multiple choice"

# ---- values, in and out


def _number_or_text(identifier: str) -> int | str:
    return int(identifier) if re.fullmatch(r"0|[1-9]\d{0,17}", identifier) else identifier


def _bare(value: Any) -> str:
    return answer_of(text_of(one(value))) or ""


def _tagged(answer: str) -> str:
    return f"<answer>{answer}</answer>"


def _segment(name: str) -> Callable[[Any], str | None]:
    """Return a reader of a segment, with or without its tags; it returns None if it is empty."""
    tags = re.compile(rf"\s*<{name}>(.*)</{name}>\s*", re.DOTALL)

    def read(value: Any) -> str | None:
        match = tags.fullmatch(text_of(value))
        return (match[1] if match else text_of(value)).strip() or None

    return read


def _given(value: Any) -> bool:
    """Return whether there is text. In a file of strings, nulls are strings too."""
    return isinstance(value, str) and value.strip() not in ("", "None", "nan", "null")


# ---- fields


class _Field(NamedTuple):
    """A field of a record: its attribute, and the functions that read and write it."""

    attribute: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]


_QUESTION = {
    "problem_id": _Field("id", text_of, _number_or_text),
    "problem": _Field("problem", problem_of, str),
    "data_type": _Field("data_type", data_type_of, str),
    "problem_type": _Field("problem_type", problem_type_of, str),
    "options": _Field("options", options_of, list),
    "solution": _Field("answer", _bare, _tagged),
    "path": _Field("path", path_of, str),
    "data_source": _Field("source", text_of, str),
}
_SEGMENTS = {
    "observation": _Field("observation", _segment("observation"), text_of),
    "process": _Field("think", _segment("think"), text_of),
    "answer": _Field("answer", lambda value: answer_of(text_of(value)), text_of),
}
_OUTPUT = {"output": _Field("text", text_of, str)}


def _take(record: Raw, fields: dict[str, _Field], derived: Raw, meta: Raw) -> Raw:
    """Return the attributes of a record's fields; `derived` has the defaults for missing ones.

    `meta` is the complete record. Every value that `_restore` can write without it is removed.
    """
    values, absent = {}, {}
    for key, field in fields.items():
        raw = record.get(key)
        default = derived.get(field.attribute)
        if field.attribute in derived and (blank(raw) if default else _absent(raw)):
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


def _absent(value: Any) -> bool:
    return value is None or value != value  # NaN


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


def is_ours(record: Any) -> bool:
    """Return whether a record is a `Question` or a `Case` of p2r, which needs no conversion."""
    return isinstance(record, Case) or (
        isinstance(record, dict)
        and (
            record.keys() >= {"question", "trace"}
            or _is_embedded(record)
            or _OURS <= record.keys() <= Question.model_fields.keys()
        )
    )


def _is_embedded(record: Raw) -> bool:
    text = record.get(EMBEDDED)
    return isinstance(text, str) and text.startswith("{")


def _unwrap(record: Any) -> Any:
    """Return the record that an export of p2r keeps in its column `p2r`."""
    if not (isinstance(record, dict) and _is_embedded(record)):
        return record
    try:
        return json.loads(record[EMBEDDED])
    except ValueError as error:
        raise BadValue(f"the column {EMBEDDED} is not JSON: {error}") from None


def to_question(record: Any, place: int) -> Question:
    """Return the question of a record of any format; `place` is its id if it has none.

    Raises BadValue.
    """
    record = _unwrap(record)
    if isinstance(record, Case):
        return _checked(record).question
    if not isinstance(record, dict):
        raise BadValue(f"not an object: {short(record)}")
    if record.keys() >= {"question", "trace"}:
        return _checked(Case.model_validate(record)).question
    if is_ours(record):
        question = _checked(Question.model_validate(record))
        # Only p2r writes all fields: then an empty path means a question without media.
        if not question.path and record.keys() < Question.model_fields.keys():
            raise BadValue(NO_MEDIA)
        return question
    return _read_question(record, place)


def to_case(record: Any, place: int) -> Case:
    """Return the question and the trace of a record of any format.

    Raises BadValue, also if there is no trace.
    """
    record = _unwrap(record)
    if isinstance(record, Case):
        return _checked(record)
    if isinstance(record, dict) and record.keys() >= {"question", "trace"}:
        return _checked(Case.model_validate(record))
    question = to_question(record, place)
    record = unify(record)
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
    problem_of(question.problem)
    if question.problem_type not in PROBLEM_TYPES:
        problem_type_of(f"{question.problem_type!r}")
    _refuse_unwritable(question.meta)
    question.meta.pop(BEGIN, None)  # a file must not write the beginning of a response
    more = question.meta.get(MORE_MEDIA, [])
    try:
        if not isinstance(more, list):
            raise ValueError
        for medium in more:
            Medium.model_validate(medium)
    except ValueError:
        raise BadValue(f"{MORE_MEDIA} is not a list of media: {short(more)}") from None
    return item


_DEEPEST = 100
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def _refuse_unwritable(value: Any, key: str = "", depth: int = 0) -> None:
    """Refuse what JSON allows but files do not: lone surrogates and very deep nesting."""
    if depth > _DEEPEST:
        raise BadValue(f"{key} is nested too deeply")
    if isinstance(value, str):
        if not value.isascii() and _HALF_CHARACTER.search(value):
            raise BadValue(f"{key} contains a lone surrogate (half a character)")
    elif isinstance(value, dict):
        for name, part in value.items():
            _refuse_unwritable(name, "a key", depth)
            _refuse_unwritable(part, key or name, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value:
            _refuse_unwritable(part, key, depth + 1)


def _said(record: Raw) -> str:
    """Return the reference answer of a record, or ""."""
    return _bare(record.get("answer") if blank(record.get("solution")) else record["solution"])


def _read_question(raw: Raw, place: int) -> Question:
    _refuse_unwritable(raw)
    record = unify(raw)
    problem = problem_of(record.get("problem"))
    record["problem"], media = place_media(problem, read_media(record))
    first = media[0] if media else None
    inferred = []
    if blank(record.get("options")) and record.get("problem_type") in (None, "", _CHOICE):
        problem, options = split_options(record["problem"])
        known = record.get("problem_type") == _CHOICE or not (said := _said(record))
        if options and problem and (known or names_option(said, options)):
            record |= {"problem": problem, "options": options}
            inferred.append("options from the text of the question")
    answer = _bare(record.get("answer")) if blank(record.get("solution")) else ""
    derived: dict[str, Any] = {
        "id": str(place),
        "data_type": first.data_type if first else "video",
        "options": [],
        "answer": answer,
        "path": first.path if first else "",
        "source": "",
    }
    if blank(record.get("problem_type")):
        derived["problem_type"] = infer_problem_type(
            options_of(record.get("options")), _said(record)
        )
        inferred.append("problem type from the options and the answer")
    meta = {key: value for key, value in record.items() if key not in (WINDOW, MORE_MEDIA, BEGIN)}
    if raw.keys() & _VIDEOP2R and all(isinstance(value, str) for value in raw.values()):
        meta[STRINGS] = True
    if first and first.window:
        meta[WINDOW] = first.window
    if inferred:
        meta[INFERRED] = inferred
    values = _take(record, _QUESTION, derived, meta)
    if first and len(media) > 1:
        meta |= more_media(media[1:])
        values |= {"path": first.path, "data_type": first.data_type}
    return Question(**values, meta=meta)


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
        **parsed.fields,
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
    return _complete(question, record)


def to_videop2r(item: Question | Case, strings: bool | None = None) -> Raw:
    """Return a record of the VideoP2R release.

    `strings`: write every value as a string, as in its RL file. None: do this if all values were
    strings when read.
    """
    question, trace = _parts(item)
    record = _restore(question, _QUESTION, question.meta)
    if trace is not None:
        record |= _restore(trace, _SEGMENTS | _OUTPUT, question.meta)
    record = _complete(question, record)
    strings = question.meta.get(STRINGS, False) if strings is None else strings
    return {key: str(value) for key, value in record.items()} if strings else record


def _parts(item: Question | Case) -> tuple[Question, Trace | None]:
    return (item.question, item.trace) if isinstance(item, Case) else (item, None)


def _complete(question: Question, record: Raw) -> Raw:
    """Return a record with the other fields that were read, and all media."""
    ours = (ABSENT, STRINGS, INFERRED, WINDOW, MORE_MEDIA, BEGIN)
    more = {k: v for k, v in question.meta.items() if k not in record and k not in ours}
    record = record | more
    write_media(question.media, record)
    return record
