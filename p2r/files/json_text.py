"""The text of a JSON file, read piece by piece: any Unicode encoding, gzip, values in a row."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

_CHUNK = 1 << 18
_GZIP = b"\x1f\x8b"
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_LITERAL = len("-Infinity")
_ESCAPED = re.compile("[\udc80-\udcff]")  # how Python writes bytes that are not UTF-8
DECODER = json.JSONDecoder(strict=False)


class Unreadable(ValueError):
    """No value can be decoded here. `cut` is true if the reason is that the text ends."""

    def __init__(self, reason: str, cut: bool = False) -> None:
        super().__init__(reason)
        self.cut = cut


class Damaged(str):
    """The text from the first byte on that is not UTF-8. Such bytes are escaped in it."""


class JsonText:
    """A text that is read piece by piece, as it is needed.

    The text ends before the first byte that is not UTF-8, except for `take_line`.
    """

    def __init__(self, chunks: Iterator[str]) -> None:
        self._chunks = chunks
        self._text = ""
        self._place = 0
        self._damaged = ""  # the next text, after a byte that is not UTF-8
        self._escapes = False  # whether the text has such bytes
        self.line = 1  # the number of the next line, as long as only lines are taken
        self.broken = ""  # why the file ended early, if it did

    @property
    def beginning(self) -> str:
        """Return the next few characters, for a message."""
        return self._text[self._place : self._place + 20]

    @property
    def at_end(self) -> bool:
        """Whether the text that was read so far is used up, and no line follows."""
        return self._place >= len(self._text) and not self._damaged

    def skip_space(self) -> str:
        """Go to the next character that is not white space and return it; "" at the end."""
        while True:
            start, self._place = self._place, skip_pattern(_SPACE, self._text, self._place)
            self.line += self._text.count("\n", start, self._place)
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._read_on():
                return ""

    def skip(self) -> None:
        """Skip one character."""
        self._place += 1

    def take_value(self) -> Any:
        """Decode the value that starts here; raise Unreadable if there is none."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                size, unterminated = len(self._text), error.msg.startswith("Unterminated")
                near_end = error.pos >= size - _LONGEST_LITERAL
                if (unterminated or near_end) and self._read_on():
                    continue
                if unterminated or error.pos >= size or (near_end and self.broken):
                    raise Unreadable(self.broken or "the file breaks off", cut=True) from None
                raise Unreadable(f"malformed JSON: {reason_of(error)}") from None
            except (ValueError, RecursionError) as error:
                raise Unreadable(f"malformed JSON: {reason_of(error)}") from None
            if end > len(self._text) - len("e-1") and self._read_on():  # a number may go on
                continue
            self._place = end
            return value

    def take_line(self) -> str | None:
        """Return the text up to the next line feed; None at the end.

        Raises Unreadable for a line that is not UTF-8. The next call returns the line after it.
        """
        while (end := self._text.find("\n", self._place)) < 0 and (
            self._read_on() or self._read_past_damage()
        ):
            pass
        end = len(self._text) if end < 0 else end
        if self._place >= len(self._text):
            return None
        line = self._text[self._place : end]
        self._place = end + 1
        self.line += 1
        if self._escapes and _ESCAPED.search(line):
            raise Unreadable("the line is not UTF-8 text")
        return line

    def take_all(self) -> str:
        """Return the rest of the text."""
        while self._read_on():
            pass
        return self._text[self._place :]

    def take_damaged(self) -> str:
        """Return the text from the first byte on that is not UTF-8, after `take_all`."""
        self._place = len(self._text)
        return self.take_all() if self._read_past_damage() else ""

    def _read_past_damage(self) -> bool:
        """Append the text after the place where it stops being UTF-8, if there is one."""
        if not self._damaged:
            return False
        self._text, self._place = self._text[self._place :] + self._damaged, 0
        self._damaged, self._escapes, self.broken = "", True, ""
        return True

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
        if self._damaged:
            return ""
        try:
            chunk = next(self._chunks, "")
            if not chunk or not isinstance(chunk, Damaged):
                return chunk
            self._damaged, self.broken = str(chunk), "not utf-8 text (invalid bytes)"
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            self.broken = f"the compressed data breaks off or is damaged ({error})"
        except UnicodeDecodeError as error:
            self.broken = f"not {error.encoding} text ({error.reason})"
        return ""


def open_text(path: Path) -> JsonText:
    """Return the text of a file."""
    return JsonText(_decode(_read_bytes(path)))


def _decode(chunks: Iterator[bytes]) -> Iterator[str]:
    first = next(chunks, b"")
    encoding = json.detect_encoding(first)
    decoder = codecs.getincrementaldecoder(encoding)()
    for chunk in chain([first], chunks, [b""]):
        state = decoder.getstate()
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            if not encoding.startswith("utf-8"):
                if error.start:  # the readable part before it
                    yield error.object[: error.start].decode(encoding)
                raise
            decoder.errors = "surrogateescape"
            decoder.setstate(state)
            whole = decoder.decode(chunk, final=not chunk)
            found = _ESCAPED.search(whole)
            start = found.start() if found else len(whole)
            if whole[:start]:
                yield whole[:start]
            text = Damaged(whole[start:])
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


def reason_of(error: ValueError | RecursionError) -> str:
    """Return why a value cannot be decoded."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else "a number is too long"


def skip_pattern(pattern: re.Pattern[str], text: str, place: int) -> int:
    """Return the place after the pattern, or the same place if the pattern is not there."""
    match = pattern.match(text, place)
    return match.end() if match else place
