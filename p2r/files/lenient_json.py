"""Read JSON files of others as far as they can be read.

`read_records` streams the records of a list or of JSON lines in constant memory. `read_stored`
returns one value: a list of records, or an object. Objects one after another, as jq writes them,
are a list. Files may be gzip-compressed, pretty-printed, in any Unicode encoding, with or without a
byte order mark.

A part that cannot be read becomes a `Fault` in its place. A bad line costs only that line. Bad or
cut JSON in a list costs the rest of the list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from p2r.errors import DataError
from p2r.files.json_text import (
    DECODER,
    Damaged,
    JsonText,
    Unreadable,
    open_text,
    reason_of,
    skip_pattern,
)

_SPACE_AND_COMMAS = re.compile(r"[\s,]*")
# A string, or a comma before a closing bracket.
_NEEDLESS_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+")|,(?=\s*[\]}])', re.DOTALL)
# After this many bad lines before the first good one, a file does not count as JSON lines.
_TRIAL_LINES = 100
# If a file is one object, its records are the list under one of these keys.
LISTS: tuple[str, ...] = (
    *("items", "results", "logs", "samples", "result_list", "res_list", "data", "predictions"),
    *("outputs", "records", "responses", "answers", "videos"),
)


class NotJson(ValueError):
    """The file has neither a JSON list nor JSON lines. The message says why, without its name."""


@dataclass(frozen=True)
class Fault:
    """A value that cannot be read, and the reason. `line`: its line in JSON lines, from 1."""

    reason: str
    line: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.reason if self.line is None else f"line {self.line}: {self.reason}"


@dataclass
class Place:
    """The line of the value that was read last, from 1; None if the file is not JSON lines."""

    line: int | None = None


def read_records(path: Path, place: Place | None = None) -> Iterator[Any]:
    """Yield the values of a JSON list or of JSON lines, and a `Fault` for each unreadable part.

    `place` is kept up to date.

    Raises NotJson if nothing is readable, OSError if the file cannot be opened. An empty file is
    valid only as JSON lines (`.jsonl`).
    """
    text = open_text(path)
    start = text.skip_space()
    if start == "[":
        yield from _read_list(text)
    elif start == "{":
        yield from _read_lines(text, place)
    elif text.broken:
        raise NotJson(text.broken)
    elif start:
        raise NotJson(f"it starts with {text.beginning!r}")
    elif ".jsonl" not in path.suffixes:
        raise NotJson("it is empty")


def is_one_object(path: Path) -> bool:
    """Return whether a file starts with an object that goes on after its first line."""
    text = open_text(path)
    if text.skip_space() != "{":
        return False
    try:
        _from_line(text.take_line() or "")
    except (ValueError, RecursionError):
        return True
    return False


def read_stored(path: Path) -> Any:
    """Return the value of a file as `read_value` does.

    If the value is an object with a list of records under one of `LISTS`, that list is returned.
    """
    value = read_value(path)
    if not isinstance(value, dict):
        return value
    found = next((value[key] for key in LISTS if holds_records(value.get(key))), None)
    if found is None:
        return value
    return [*found, value[""]] if isinstance(value.get(""), Fault) else found


def holds_records(value: Any) -> bool:
    """Return whether a value is a list with objects, or with lists of objects."""
    parts = value if isinstance(value, list) else ()
    return any(isinstance(part, dict) or holds_records(part) for part in parts)


def split_fault(value: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """Return an object of `read_value` without its fault, and the fault in a list, if any."""
    found = [part for key, part in value.items() if key == "" and isinstance(part, Fault)]
    return {key: part for key, part in value.items() if key or not found}, found


def fault_inside(record: Mapping[str, Any]) -> Fault | None:
    """Return the fault at the end of a list in a record: the file breaks off there."""
    ends = (part[-1] for part in record.values() if isinstance(part, list) and part)
    return next((end for end in ends if isinstance(end, Fault)), None)


def read_value(path: Path) -> Any:
    """Return the value of a file: a list (also from JSON lines or joined objects), or an object.

    Extra commas are ignored. In a file that breaks off, the list or the object ends with a `Fault`
    (in an object under the key ""). Raises `DataError` if nothing is readable.
    """
    whole = open_text(path)
    text = whole.take_all()
    if not text.strip() and not whole.broken:
        raise DataError(f"{path} is empty: give a file of stored outputs")
    broken = whole.broken
    value = None if broken else _parse(text)
    if value is None:
        value = _salvage(text, whole.take_damaged() if broken else "")
        if broken and isinstance(value, list | dict) and not _faults(value):
            fault = Fault(broken)
            value = [*value, fault] if isinstance(value, list) else {**value, "": fault}
    if not isinstance(value, list | dict) or len(value) == _faults(value):
        why = f" ({broken})" if broken else ""
        raise DataError(
            f"{path} has no JSON that can be read{why}: give a list, lines or an object"
        )
    return value


# ---- a stream of records


def _read_list(text: JsonText) -> Iterator[Any]:
    """Yield the items of a list, and of the lists after it if files were joined."""
    count = 0
    while text.skip_space() == "[":
        text.skip()
        while text.skip_space() != "]":
            try:
                value = text.take_value()
            except Unreadable as error:
                if not count and not error.cut:
                    raise NotJson(str(error)) from None
                yield Fault(f"{error}; what follows is lost")
                return
            yield value
            count += 1
            if text.skip_space() == ",":
                text.skip()
        text.skip()
    if text.skip_space() or text.broken:
        yield Fault(text.broken or f"text after the list: {text.beginning!r}")


def _read_lines(text: JsonText, place: Place | None = None) -> Iterator[Any]:
    """Yield the value of each line; raises NotJson if there is no good line near the start."""
    place = place or Place()
    faults: list[Fault] = []  # held back until a good line shows that these are JSON lines
    good = False
    while True:
        number = text.line
        try:
            line = text.take_line()
            if line is None:
                break
            if not line.strip():
                continue
            value = _from_line(line)
        except Unreadable as error:
            faults.append(Fault(str(error), number))
        except (ValueError, RecursionError) as error:
            broken = text.broken if text.at_end else ""
            faults.append(Fault(broken or f"malformed JSON: {reason_of(error)}", number))
        else:
            good = True
            yield from faults
            faults.clear()
            place.line = number
            yield value
        if not good and len(faults) == _TRIAL_LINES:
            break
    if faults and not good:
        raise NotJson(faults[0].reason)
    yield from faults
    if text.broken and not faults:
        yield Fault(text.broken, text.line)


def _from_line(line: str) -> Any:
    line = line.rstrip().removesuffix(",")
    try:
        return from_json(line)  # several times as fast
    except (ValueError, TypeError):  # TypeError: bytes that are not UTF-8
        return DECODER.decode(line)


# ---- one stored value


def _parse(text: str) -> Any:
    """Return the one value of a text, also with extra commas; None if it is not one value."""
    for repair in (str, _without_needless_commas):
        try:
            return json.loads(repair(text), strict=False)
        except (ValueError, RecursionError):
            continue
    return None


def _faults(value: list[Any] | dict[str, Any]) -> int:
    parts = value.values() if isinstance(value, dict) else value
    return sum(isinstance(part, Fault) for part in parts)


def _without_needless_commas(text: str) -> str:
    return _NEEDLESS_COMMA.sub(r"\1", text)


def _salvage(text: str, damaged: str = "") -> Any:
    """Return the complete part of a text: lines, objects, items of a list, members of an object.

    `damaged` is the text after it, from the first byte on that is not UTF-8. Only lines of it are
    used.
    """
    if _starts_with_lines(text if text.lstrip().startswith("[") else text + damaged):
        return list(_read_lines(JsonText(iter([text, Damaged(damaged)]))))
    text = _without_needless_commas(text)
    start = skip_pattern(_SPACE_AND_COMMAS, text, 0)
    if (value := _joined_objects(text, start)) is not None:
        return value
    keys = "|".join(LISTS)
    if inner := re.match(
        rf'\{{.{{0,4000}}?"(?:{keys})"\s*:\s*\[(?=\s*[{{\[])', text[start:], re.DOTALL
    ):
        start += inner.end() - 1
    if text[start : start + 1] == "[":
        return _items(text[start:])
    return _members(text, start + 1) if text[start : start + 1] == "{" else None


def _starts_with_lines(text: str) -> bool:
    """Return whether one of the first two lines is a complete object."""
    lines = (line for line in text.split("\n") if line.strip())
    for line in islice(lines, 2):
        try:
            if isinstance(_from_line(line), dict):
                return True
        except (ValueError, RecursionError):
            continue
    return False


def _joined_objects(text: str, place: int) -> list[Any] | dict[str, Any] | None:
    """Return the objects that stand one after another, with a Fault if text remains.

    One object alone is returned with the Fault under the key "". None: the first is incomplete.
    """
    found: list[Any] = []
    while text[place : place + 1] == "{":
        try:
            value, place = DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            if not found:
                return None
            reason = f"the file breaks off or is damaged after {len(found)} complete objects"
            return [*found, Fault(reason)]
        found.append(value)
        place = skip_pattern(_SPACE_AND_COMMAS, text, place)
    if place == len(text) or not found:
        return found or None
    fault = Fault(f"text after an object: {text[place : place + 20]!r}")
    return [*found, fault] if len(found) > 1 else {**found[0], "": fault}


def _items(text: str) -> list[Any]:
    """Return the items of a list that breaks off, with a Fault at its end."""
    try:
        return list(_read_list(JsonText(iter([text]))))
    except NotJson as error:
        return [Fault(str(error))]


def _members(text: str, place: int) -> dict[str, Any]:
    members: dict[str, Any] = {}
    while True:
        place = skip_pattern(_SPACE_AND_COMMAS, text, place)
        if text[place : place + 1] == "}":
            return members
        key: Any = None
        try:
            key, place = DECODER.raw_decode(text, place)
            place = text.index(":", place) + 1
            place = skip_pattern(_SPACE_AND_COMMAS, text, place)
            value, place = DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            reason = f"the file breaks off or is damaged after {len(members)} complete members"
            cut = isinstance(key, str) and text[place : place + 1] == "["
            return members | ({key: _items(text[place:])} if cut else {"": Fault(reason)})
        members[str(key)] = value
