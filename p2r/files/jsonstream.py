"""Read the values of a JSON list, or of JSON lines, one at a time and in constant memory.

Files may be gzip-compressed, pretty-printed, in any Unicode encoding, with or without a byte order
mark. What cannot be read comes out as a `Fault` in its place: a malformed line costs that line, a
malformed or cut value in a list costs the rest of the list.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic_core import from_json

_CHUNK = 1 << 18
_GZIP = b"\x1f\x8b"
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(strict=False)
_LONGEST_LITERAL = len("-Infinity")
_TRIAL_LINES = 100  # so many malformed lines before a good one, and a file is no JSON lines


class NotJson(ValueError):
    """The file is no JSON list and no JSON lines; the message says why, without the file's name."""


class _Unreadable(ValueError):
    """No value can be decoded here; `cut`: because the text ends."""

    def __init__(self, reason: str, cut: bool = False) -> None:
        super().__init__(reason)
        self.cut = cut


@dataclass(frozen=True)
class Fault:
    """Why the value in this place cannot be read."""

    reason: str


def read_json(path: Path) -> Iterator[Any]:
    """The values of a JSON list or of JSON lines, with a `Fault` for what cannot be read.

    Raises NotJson where nothing is readable at all, OSError where the file cannot be opened. An
    empty file is good JSON lines (`.jsonl`) and nothing else.
    """
    text = _Text(path)
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


def _read_list(text: _Text) -> Iterator[Any]:
    """The items of a list, and of further lists behind it, as where parts were joined."""
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
    try:
        return from_json(line)  # several times as fast
    except ValueError:
        return _DECODER.decode(line)


class _Text:
    """The text of a file, read on as it is taken."""

    def __init__(self, path: Path) -> None:
        self._chunks = _decode(_read_bytes(path))
        self._text = ""
        self._place = 0
        self.broken = ""  # why the file ends early, once it did

    @property
    def beginning(self) -> str:
        """The next few characters, for a message."""
        return self._text[self._place : self._place + 20]

    def skip_space(self) -> str:
        """Go to the next character that is no white space and return it; "" at the end."""
        while True:
            self._place = _SPACE.match(self._text, self._place).end()
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read_on():
                return ""

    def skip(self) -> None:
        """Pass over one character."""
        self._place += 1

    def take_value(self) -> Any:
        """Decode the value that starts here; raises _Unreadable."""
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
        """The text up to the next line feed; None at the end."""
        while (end := self._text.find("\n", self._place)) < 0 and self._read_on():
            pass
        end = len(self._text) if end < 0 else end
        if self._place >= len(self._text):
            return None
        line = self._text[self._place : end]
        self._place = end + 1
        return line

    def _read_on(self) -> bool:
        """Append at least as much as is left, so that a long value is not tried too often."""
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
            if error.start:  # what is readable before it
                yield error.object[: error.start].decode(encoding)
            raise
        if text:
            yield text


def _read_bytes(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        source = gzip.GzipFile(fileobj=file) if is_gzip else file
        # read1 hands out what there is before it raises at the place where the data breaks off
        while chunk := source.read1(_CHUNK):
            yield chunk


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else "a number is too long"
