"""Read JSON files of others as far as they can be read.

`read_records` streams the records of a list or of JSON lines in constant memory. `read_stored`
returns one value: a list of records, or an object. Files may be gzip-compressed, pretty-printed, in
any Unicode encoding, with or without a byte order mark.

A part that cannot be read becomes a `Fault` in its place. A bad line costs only that line. Bad or
cut JSON in a list costs the rest of the list.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from p2r.errors import DataError

_CHUNK = 1 << 18
_GZIP = b"\x1f\x8b"
_SPACE = re.compile(r"[ \t\r\n]*")
_SPACE_AND_COMMAS = re.compile(r"[\s,]*")
# A string, or a comma before a closing bracket.
_NEEDLESS_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+")|,(?=\s*[\]}])', re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)
_LONGEST_LITERAL = len("-Infinity")
# After this many bad lines before the first good one, a file does not count as JSON lines.
_TRIAL_LINES = 100
# If a file is one object, its records are the list under one of these keys.
LISTS: tuple[str, ...] = (
    *("items", "results", "logs", "samples", "result_list", "res_list", "data", "predictions"),
    *("outputs", "records", "responses", "answers", "videos"),
)


class NotJson(ValueError):
    """The file has neither a JSON list nor JSON lines. The message says why, without its name."""


class _Unreadable(ValueError):
    """No value can be decoded here. `cut` is true if the reason is that the text ends."""

    def __init__(self, reason: str, cut: bool = False) -> None:
        super().__init__(reason)
        self.cut = cut


@dataclass(frozen=True)
class Fault:
    """A value that cannot be read, and the reason."""

    reason: str


def read_records(path: Path) -> Iterator[Any]:
    """Yield the values of a JSON list or of JSON lines, and a `Fault` for each unreadable part.

    Raises NotJson if nothing is readable, OSError if the file cannot be opened. An empty file is
    valid only as JSON lines (`.jsonl`).
    """
    text = _Text(_decode(_read_bytes(path)))
    start = text.skip_space()
    if start == "[":
        yield from _read_list(text)
    elif start == "{":
        yield from _read_lines(text)
    elif text.broken:
        raise NotJson(text.broken)
    elif start:
        raise NotJson(f"it starts with {text.beginning!r}")
    elif ".jsonl" not in path.suffixes:
        raise NotJson("it is empty")


def is_one_object(path: Path) -> bool:
    """Return whether a file starts with an object that goes on after its first line."""
    text = _Text(_decode(_read_bytes(path)))
    if text.skip_space() != "{":
        return False
    try:
        _from_line(text.take_line() or "")
    except (ValueError, RecursionError):
        return True
    return False


def read_stored(path: Path) -> Any:
    """Return the value of a file: a list (also from JSON lines), or an object.

    If the object has a list of records under one of `LISTS`, that list is returned. Extra
    commas are ignored. In a file that breaks off, the list or the object ends with a `Fault` (in
    an object under the key ""). Raises `DataError` if nothing is readable.
    """
    whole = _Text(_decode(_read_bytes(path)))
    text = whole.take_all()
    if not text.strip() and not whole.broken:
        raise DataError(f"{path} is empty: give a file of stored outputs")
    value = None if whole.broken else _parse(text)
    if value is None:
        value = _salvage(text)
        if whole.broken and isinstance(value, list | dict) and not _faults(value):
            fault = Fault(whole.broken)
            value = [*value, fault] if isinstance(value, list) else {**value, "": fault}
    if isinstance(value, dict):
        value = next((value[key] for key in LISTS if isinstance(value.get(key), list)), value)
    if not isinstance(value, list | dict) or len(value) == _faults(value):
        why = f" ({whole.broken})" if whole.broken else ""
        raise DataError(
            f"{path} has no JSON that can be read{why}: give a list, lines or an object"
        )
    return value


# ---- a stream of records


def _read_list(text: _Text) -> Iterator[Any]:
    """Yield the items of a list, and of the lists after it if files were joined."""
    count = 0
    while text.skip_space() == "[":
        text.skip()
        while text.skip_space() != "]":
            try:
                value = text.take_value()
            except _Unreadable as error:
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


def _read_lines(text: _Text) -> Iterator[Any]:
    """Yield the value of each line; raises NotJson if there is no good line near the start."""
    faults: list[Fault] = []  # held back until a good line shows that these are JSON lines
    good = False
    while (line := text.take_line()) is not None:
        if not line.strip():
            continue
        try:
            value = _from_line(line)
        except (ValueError, RecursionError) as error:
            faults.append(Fault(text.broken or f"malformed JSON: {_reason(error)}"))
            if not good and len(faults) == _TRIAL_LINES:
                break
        else:
            good = True
            yield from faults
            faults.clear()
            yield value
    if faults and not good:
        raise NotJson(faults[0].reason)
    yield from faults
    if text.broken and not faults:
        yield Fault(text.broken)


def _from_line(line: str) -> Any:
    line = line.rstrip().removesuffix(",")
    try:
        return from_json(line)  # several times as fast
    except ValueError:
        return _DECODER.decode(line)


class _Text:
    """A text that is read piece by piece, as it is needed."""

    def __init__(self, chunks: Iterator[str]) -> None:
        self._chunks = chunks
        self._text = ""
        self._place = 0
        self.broken = ""  # why the file ended early, if it did

    @property
    def beginning(self) -> str:
        """Return the next few characters, for a message."""
        return self._text[self._place : self._place + 20]

    def skip_space(self) -> str:
        """Go to the next character that is not white space and return it; "" at the end."""
        while True:
            self._place = _after(_SPACE, self._text, self._place)
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read_on():
                return ""

    def skip(self) -> None:
        """Skip one character."""
        self._place += 1

    def take_value(self) -> Any:
        """Decode the value that starts here; raise _Unreadable if there is none."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                size, unterminated = len(self._text), error.msg.startswith("Unterminated")
                near_end = error.pos >= size - _LONGEST_LITERAL
                if (unterminated or near_end) and self._read_on():
                    continue
                if unterminated or error.pos >= size or (near_end and self.broken):
                    raise _Unreadable(self.broken or "the file breaks off", cut=True) from None
                raise _Unreadable(f"malformed JSON: {_reason(error)}") from None
            except (ValueError, RecursionError) as error:
                raise _Unreadable(f"malformed JSON: {_reason(error)}") from None
            if end > len(self._text) - len("e-1") and self._read_on():  # a number may go on
                continue
            self._place = end
            return value

    def take_line(self) -> str | None:
        """Return the text up to the next line feed; None at the end."""
        while (end := self._text.find("\n", self._place)) < 0 and self._read_on():
            pass
        end = len(self._text) if end < 0 else end
        if self._place >= len(self._text):
            return None
        line = self._text[self._place : end]
        self._place = end + 1
        return line

    def take_all(self) -> str:
        """Return the rest of the text."""
        while self._read_on():
            pass
        return self._text[self._place :]

    def _read_on(self) -> bool:
        """Append at least as much text as is left, so that few attempts decode a long value."""
        pieces = [self._text[self._place :]]
        missing = max(_CHUNK, len(pieces[0]))
        while missing > 0 and (chunk := self._next_chunk()):
            pieces.append(chunk)
            missing -= len(chunk)
        if len(pieces) == 1:
            return False
        self._text, self._place = "".join(pieces), 0
        return True

    def _next_chunk(self) -> str:
        try:
            return next(self._chunks, "")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self.broken = f"the compressed data breaks off or is damaged ({error})"
        except UnicodeDecodeError as error:
            self.broken = f"not {error.encoding} text ({error.reason})"
        return ""


def _decode(chunks: Iterator[bytes]) -> Iterator[str]:
    first = next(chunks, b"")
    encoding = json.detect_encoding(first)
    decoder = codecs.getincrementaldecoder(encoding)()
    for chunk in chain([first], chunks, [b""]):
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            if error.start:  # the readable part before it
                yield error.object[: error.start].decode(encoding)
            raise
        if text:
            yield text


def _read_bytes(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        source = gzip.GzipFile(fileobj=file) if is_gzip else file
        # read1 returns all readable bytes before it raises at the place where the data breaks off.
        while chunk := source.read1(_CHUNK):
            yield chunk


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else "a number is too long"


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


def _after(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    return match.end() if match else place


def _without_needless_commas(text: str) -> str:
    return _NEEDLESS_COMMA.sub(r"\1", text)


def _salvage(text: str) -> Any:
    """Return the complete part of a text: lines, items of a list, or members of an object."""
    if _starts_with_lines(text):
        return list(_read_lines(_Text(iter([text]))))
    text = _without_needless_commas(text)
    start = _after(_SPACE_AND_COMMAS, text, 0)
    keys = "|".join(LISTS)
    if inner := re.match(rf'\{{.{{0,4000}}?"(?:{keys})"\s*:\s*\[', text[start:], re.DOTALL):
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


def _items(text: str) -> list[Any]:
    """Return the items of a list that breaks off, with a Fault at its end."""
    try:
        return list(_read_list(_Text(iter([text]))))
    except NotJson as error:
        return [Fault(str(error))]


def _members(text: str, place: int) -> dict[str, Any]:
    members: dict[str, Any] = {}
    while True:
        place = _after(_SPACE_AND_COMMAS, text, place)
        if text[place : place + 1] == "}":
            return members
        key: Any = None
        try:
            key, place = _DECODER.raw_decode(text, place)
            place = text.index(":", place) + 1
            place = _after(_SPACE_AND_COMMAS, text, place)
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            reason = f"the file breaks off or is damaged after {len(members)} complete members"
            cut = isinstance(key, str) and text[place : place + 1] == "["
            return members | ({key: _items(text[place:])} if cut else {"": Fault(reason)})
        members[str(key)] = value
