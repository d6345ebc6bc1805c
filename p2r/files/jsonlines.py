"""One value, one line of JSON: how journals, case files and exports are written and read."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json


def to_line(value: Any) -> str:
    """A value as one line of JSON, line feed and all; a third of the time of `json.dumps`.

    ASCII only, so that any string a model may write (line separators and lone surrogates too)
    comes back as it was. NaN and infinity are written as Python reads them. Raises `TypeError` for
    what JSON has no form for.
    """
    try:
        line = to_json(value)
        if not line.isascii():  # rare, and twice as slow
            line = to_json(value, ensure_ascii=True)
        return line.decode("ascii") + "\n"
    except PydanticSerializationError:  # lone surrogates, or what JSON has no form for
        return json.dumps(value) + "\n"


def from_line(line: str | bytes) -> Any:
    """The value of a line of JSON; several times as fast as `json.loads`.

    Raises what that raises: ValueError, saying where the fault is, and RecursionError.
    """
    try:
        return from_json(line)
    except ValueError:
        return json.loads(line)  # which also takes lone surrogates
