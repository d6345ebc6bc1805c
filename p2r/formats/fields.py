"""The fields of a record: how each becomes an attribute of `Question` or `Trace`, and back.

A value in an unusual form, for example options in a string, also stays in `Question.meta`. It is
written back only if the attribute still has the same meaning. So a record is restored field for
field.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from p2r.formats.media import path_of
from p2r.formats.values import (
    BadValue,
    Raw,
    blank,
    data_type_of,
    one,
    options_of,
    problem_of,
    problem_type_of,
    text_of,
)
from p2r.records import Question, Trace
from p2r.template import answer_of

# Keys in meta. ABSENT: the missing fields of the record → their default values. STRINGS: whether
# all values are strings, as in the RL file of VideoP2R. INFERRED: what the record does not say.
ABSENT, STRINGS, INFERRED = "_absent", "_strings", "_inferred"


def _number_or_text(identifier: str) -> int | str:
    return int(identifier) if re.fullmatch(r"0|[1-9]\d{0,17}", identifier) else identifier


def bare(value: Any) -> str:
    """Return a reference answer without its tags."""
    return answer_of(text_of(one(value))) or ""


def tagged(answer: str) -> str:
    """Return an answer in its tags."""
    return f"<answer>{answer}</answer>"


def _segment(name: str) -> Callable[[Any], str | None]:
    """Return a reader of a segment, with or without its tags; it returns None if it is empty."""
    tags = re.compile(rf"\s*<{name}>(.*)</{name}>\s*", re.DOTALL)

    def read(value: Any) -> str | None:
        match = tags.fullmatch(text_of(value))
        return (match[1] if match else text_of(value)).strip() or None

    return read


def given(value: Any) -> bool:
    """Return whether a value is text. The strings "None", "nan" and "null" count as missing."""
    return isinstance(value, str) and value.strip() not in ("", "None", "nan", "null")


class Field(NamedTuple):
    """A field of a record: its attribute, and the functions that read and write it."""

    attribute: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]


QUESTION = {
    "problem_id": Field("id", text_of, _number_or_text),
    "problem": Field("problem", problem_of, str),
    "data_type": Field("data_type", data_type_of, str),
    "problem_type": Field("problem_type", problem_type_of, str),
    "options": Field("options", options_of, list),
    "solution": Field("answer", bare, tagged),
    "path": Field("path", path_of, str),
    "data_source": Field("source", text_of, str),
}
SEGMENTS = {
    "observation": Field("observation", _segment("observation"), text_of),
    "process": Field("think", _segment("think"), text_of),
    "answer": Field("answer", lambda value: answer_of(text_of(value)), text_of),
}
OUTPUT = {"output": Field("text", text_of, str)}


def take(record: Raw, fields: dict[str, Field], derived: Raw, meta: Raw) -> Raw:
    """Return the attributes of a record's fields; `derived` has the defaults for missing ones.

    `meta` is the complete record. Every value that `restore` can write without it is removed.
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


def restore(source: Question | Trace, fields: dict[str, Field], meta: Raw) -> Raw:
    """Return the fields of a record, in the raw form of `meta` if the meaning is still the same."""
    record, absent = {}, meta.get(ABSENT, {})
    for key, field in fields.items():
        value = getattr(source, field.attribute)
        if key in absent and absent[key] == value:
            if key in meta:  # it was null
                record[key] = meta[key]
        elif key in meta and _still_means(field, meta[key], value):
            record[key] = meta[key]
        else:
            record[key] = field.write(value)
    return record


def _still_means(field: Field, raw: Any, value: Any) -> bool:
    try:
        return field.read(raw) == value
    except BadValue:
        return False
