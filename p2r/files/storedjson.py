"""Read what others stored: JSON lists, lines and objects, also with commas too many or cut short.

What can be read is read, and what cannot is a `Fault` in its place: a bad line costs that line, a
file that breaks off costs what follows.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

from p2r.errors import DataError
from p2r.files.jsonstream import Fault

# Where a file is one object, its records are the list under one of these keys.
LISTS = ("items", "results", "logs", "samples", "result_list", "res_list", "data", "predictions")
LISTS += ("outputs", "records", "responses", "answers", "videos")
_DECODER = json.JSONDecoder(strict=False)
_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+")|,(?=\s*[\]}])', re.DOTALL)
_SPACE = re.compile(r"[\s,]*")
_GZIP = b"\x1f\x8b"


def read_text(path: Path) -> str:
    """The text of a file, also a compressed one; raises `DataError` where it is none."""
    data = path.read_bytes()
    try:
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
        return data.decode(json.detect_encoding(data)).removeprefix("\ufeff")
    except (EOFError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable text ({error})") from None


def read_stored(path: Path) -> Any:
    """The value of a file: a list (JSON lines too), or an object that holds no list of records.

    A value that cannot be read whole is a list or an object that ends in a `Fault` (an object
    under the key ""). Raises `DataError` where nothing is readable.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path} is empty: give a file of stored outputs")
    value = _whole(text)
    if value is None:
        value = _lines(text) or _salvage(_COMMA.sub(r"\1", text))
    if isinstance(value, dict):
        value = next((value[key] for key in LISTS if isinstance(value.get(key), list)), value)
    if not isinstance(value, list | dict) or all(isinstance(part, Fault) for part in _parts(value)):
        raise DataError(f"{path} holds no JSON that can be read: give a list, lines or an object")
    return value


def _parts(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, dict) else value)


def _whole(text: str) -> Any:
    """The one value of a text, with or without commas before closing brackets; None if not one."""
    for candidate in (text, None):
        try:
            return json.loads(candidate or _COMMA.sub(r"\1", text), strict=False)
        except (ValueError, RecursionError):
            continue
    return None


def _lines(text: str) -> list[Any]:
    """The values of JSON lines; empty where the first two lines hold none."""
    values: list[Any] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            values.append(json.loads(line, strict=False))
        except (ValueError, RecursionError) as error:
            values.append(Fault(f"a line is no JSON: {error}"))
        if len(values) == 2 and not any(isinstance(value, dict) for value in values):
            return []
    return values if any(isinstance(value, dict) for value in values) else []


def _salvage(text: str) -> Any:
    """What is complete of a text that breaks off: items of a list, or members of an object."""
    place = _SPACE.match(text).end()
    keys = "|".join(LISTS)
    if inner := re.match(rf'\{{.{{0,4000}}?"(?:{keys})"\s*:\s*\[', text[place:], re.DOTALL):
        place += inner.end() - 1
    if text[place : place + 1] == "[":
        return _items(text, place + 1)
    return _members(text, place + 1) if text[place : place + 1] == "{" else None


def _items(text: str, place: int) -> list[Any]:
    items: list[Any] = []
    while True:
        place = _SPACE.match(text, place).end()
        if text[place : place + 1] == "]":
            return items
        try:
            item, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            return [*items, Fault(f"the file breaks off or is damaged after {len(items)} records")]
        items.append(item)


def _members(text: str, place: int) -> dict[str, Any]:
    members: dict[str, Any] = {}
    while True:
        place = _SPACE.match(text, place).end()
        if text[place : place + 1] == "}":
            return members
        key = None
        try:
            key, place = _DECODER.raw_decode(text, place)
            place = text.index(":", place) + 1
            place = _SPACE.match(text, place).end()
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            reason = f"the file breaks off or is damaged after {len(members)} whole members"
            cut = isinstance(key, str) and text[place : place + 1] == "["
            return members | ({key: _items(text, place + 1)} if cut else {"": Fault(reason)})
        members[str(key)] = value
