"""Search in the texts of many cases: which of them hold some words, exactly, without reading them.

Texts are cut at white space into chunks, which keep their punctuation. A segment of the index
holds the distinct chunks, for each chunk the texts it stands in, and every text as its chunks in
order. A query without white space is part of some chunks, and the texts of those are its result.
A longer one begins with the end of a chunk, ends with the beginning of one and has whole ones
between: texts that hold them all are looked through for them in a row. So results are those of a
literal search without case in which any white space equals any other.

The arrays lie in temporary files without a name, mapped into memory; they go with the index.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_GATHERED = 2**21  # chunks looked at in one piece
_ONE_BY_ONE = 64  # so many of the most frequent chunks are joined before the rest is


class Texts(NamedTuple):
    """Some texts: `texts[i]` is field `fields[i]` (a small number) of case `cases[i]`."""

    cases: np.ndarray
    fields: np.ndarray
    texts: pa.Array


def normalise(texts: pa.Array) -> pa.Array:
    """Lower case, as both sides of a comparison."""
    return pc.utf8_lower(texts)


def query_chunks(text: str) -> list[str]:
    """The chunks of a query; none: there is nothing to look for."""
    clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    chunks = pc.utf8_split_whitespace(normalise(pa.array([clean], pa.string())))
    return [chunk for chunk in chunks[0].as_py() if chunk]


def scan(texts: Texts, chunks: Sequence[str], fields: Sequence[int]) -> np.ndarray:
    """The cases of the texts that hold the chunks in a row, without an index."""
    wanted = np.isin(texts.fields, list(fields))
    pattern = r"\s+".join(re.escape(chunk) for chunk in chunks)
    lowered = normalise(texts.texts.filter(pa.array(wanted)))
    if len(chunks) == 1:
        held = pc.match_substring(lowered, chunks[0])
    else:
        held = pc.match_substring_regex(lowered, pattern)
    return np.unique(texts.cases[wanted][np.asarray(held.fill_null(False))])


class Segment:
    """The index of one set of texts, built once."""

    def __init__(self, batches: Iterable[Texts]) -> None:
        build = _Build()
        for batch in batches:
            build.add(batch)
        self.vocabulary = pa.array(build.numbers, pa.string())
        self.cases, self.fields = np.concatenate(build.cases), np.concatenate(build.fields)
        self.starts = np.concatenate([[0], np.cumsum(np.concatenate(build.lengths))])
        self.chunks = build.chunks.array()
        self.offsets, self.postings = build.invert(len(self.vocabulary))

    def find(self, chunks: Sequence[str], fields: Sequence[int]) -> np.ndarray:
        """The cases, ascending, that hold the chunks in a row in one of the fields."""
        if len(chunks) == 1:
            held = self._texts_with(pc.match_substring(self.vocabulary, chunks[0]))
        else:
            held = self._texts_in_a_row(chunks)
        held &= np.isin(self.fields, list(fields))
        return np.unique(self.cases[held])

    def _texts_with(self, chosen: pa.Array) -> np.ndarray:
        """Which texts hold one of the chosen chunks of the vocabulary."""
        numbers = np.flatnonzero(np.asarray(chosen))
        held = np.zeros(len(self.cases), bool)
        counts = self.offsets[numbers + 1] - self.offsets[numbers]
        frequent = np.argsort(-counts)
        for number in numbers[frequent[:_ONE_BY_ONE]]:
            held[self.postings[self.offsets[number] : self.offsets[number + 1]]] = True
        rest = numbers[frequent[_ONE_BY_ONE:]]
        if len(rest) and not held.all():
            places = _spread(self.offsets[rest], self.offsets[rest + 1])
            held[self.postings[places]] = True
        return held

    def _texts_in_a_row(self, chunks: Sequence[str]) -> np.ndarray:
        first = pc.ends_with(self.vocabulary, chunks[0])
        whole = [pc.equal(self.vocabulary, chunk) for chunk in chunks[1:-1]]
        chosen = [first, *whole, pc.starts_with(self.vocabulary, chunks[-1])]
        candidates = np.ones(len(self.cases), bool)
        for part in chosen:
            candidates &= self._texts_with(part)
        held = np.zeros(len(self.cases), bool)
        masks = [np.asarray(part) for part in chosen]
        texts = np.flatnonzero(candidates)
        for some in _pieces(texts, self.starts):
            held[self._in_a_row(some, masks)] = True
        return held

    def _in_a_row(self, texts: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Which of the texts hold chunks of the masks one after the other."""
        starts, ends = self.starts[texts], self.starts[texts + 1]
        row = self.chunks[_spread(starts, ends)]
        owner = np.repeat(texts, ends - starts)
        last = len(row) - len(masks) + 1
        if last <= 0:
            return texts[:0]
        at = np.flatnonzero(masks[0][row[:last]])
        for step, mask in enumerate(masks[1:], start=1):
            at = at[mask[row[at + step]]]
        return np.unique(owner[at][owner[at] == owner[at + len(masks) - 1]])


class TextSearch:
    """Texts that are added as they come, searched through an index as soon as there is one.

    Small additions are kept in memory and looked through; a large one, and many small ones, are
    indexed by a thread of low priority. Threads may search together.
    """

    SMALL = 4096  # texts

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._segments: list[Segment] = []
        self._streams: list[Callable[[], Iterable[Texts]]] = []
        self._loose: list[Texts] = []
        self._worker: threading.Thread | None = None
        self._closed = threading.Event()
        self.fault: str | None = None

    def add(self, texts: Iterable[Texts]) -> None:
        """Add some texts, which are kept."""
        with self._lock:
            self._loose.extend(texts)
            if sum(len(texts.texts) for texts in self._loose) > self.SMALL and not self._busy():
                loose = self._loose
                self._loose = []
                self._index(lambda: loose)

    def add_stream(self, stream: Callable[[], Iterable[Texts]]) -> None:
        """Add many texts, which `stream()` reads every time it is called."""
        with self._lock:
            self._index(stream)

    def find(self, chunks: Sequence[str], fields: Sequence[int]) -> np.ndarray:
        """The cases, ascending, with a text that holds the chunks in a row in one of the fields."""
        with self._lock:
            segments, streams, loose = [*self._segments], [*self._streams], [*self._loose]
        found = [segment.find(chunks, fields) for segment in segments]
        found += [scan(texts, chunks, fields) for stream in streams for texts in stream()]
        found += [scan(texts, chunks, fields) for texts in loose]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all large additions are indexed; False: not yet."""
        worker = self._worker
        if worker is not None:
            worker.join(timeout)
        return not self._streams

    def close(self) -> None:
        """End the work in the background."""
        self._closed.set()

    def _busy(self) -> bool:
        return self._worker is not None and self._worker.is_alive()

    def _index(self, stream: Callable[[], Iterable[Texts]]) -> None:
        self._streams.append(stream)
        former = self._worker if self._busy() else None
        self._worker = threading.Thread(
            target=self._build, args=(stream, former), name="p2r-index", daemon=True
        )
        self._worker.start()

    def _build(
        self, stream: Callable[[], Iterable[Texts]], former: threading.Thread | None
    ) -> None:
        if former is not None:
            former.join()
        with contextlib.suppress(OSError, AttributeError):  # where threads have no priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        try:
            segment = Segment(self._until_closed(stream()))
        except _Closed:
            return
        except (OSError, ValueError, pa.ArrowException) as error:
            self.fault = f"the texts are not indexed, searches read them: {error}"
            return
        with self._lock:
            self._segments.append(segment)
            self._streams.remove(stream)

    def _until_closed(self, batches: Iterable[Texts]) -> Iterator[Texts]:
        for batch in batches:
            if self._closed.is_set():
                raise _Closed
            yield batch


class _Closed(Exception):
    """Nobody needs the index any more."""


class _Build:
    """What a segment is built from, collected batch by batch."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.cases: list[np.ndarray] = []
        self.fields: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []
        self.chunks = _Spool()
        # Sorted pairs of (chunk, text), a run per batch.
        self.pairs_chunk, self.pairs_text = _Spool(), _Spool()
        self.runs: list[int] = []
        self.texts = 0

    def add(self, batch: Texts) -> None:
        split = pc.utf8_split_whitespace(normalise(batch.texts.fill_null("")))
        encoded = split.flatten().dictionary_encode()
        known = self.numbers
        # A word list of some 10,000 per batch: the only loop in Python.
        places = np.fromiter(
            (known.setdefault(word, len(known)) for word in encoded.dictionary.to_pylist()),
            np.int32,
            len(encoded.dictionary),
        )
        chunks = places[np.asarray(encoded.indices)] if len(encoded) else np.zeros(0, np.int32)
        lengths = np.diff(np.asarray(split.offsets))
        texts = np.repeat(np.arange(self.texts, self.texts + len(lengths)), lengths)
        self.chunks.write(chunks)
        self.cases.append(np.asarray(batch.cases, np.int32))
        self.fields.append(np.asarray(batch.fields, np.int8))
        self.lengths.append(lengths)
        self.texts += len(lengths)
        pairs = np.sort(chunks.astype(np.int64) << 32 | texts)
        pairs = pairs[np.concatenate([[True], pairs[1:] != pairs[:-1]])] if len(pairs) else pairs
        self.pairs_chunk.write((pairs >> 32).astype(np.int32))
        self.pairs_text.write((pairs & 0xFFFFFFFF).astype(np.int32))
        self.runs.append(len(pairs))

    def invert(self, words: int) -> tuple[np.ndarray, np.ndarray]:
        """(offsets, postings): the texts of chunk i are postings[offsets[i]:offsets[i + 1]]."""
        chunks, texts = self.pairs_chunk.array(), self.pairs_text.array()
        bounds = np.concatenate([[0], np.cumsum(self.runs)])
        counts = np.zeros(words + 1, np.int64)
        for low, high in itertools.pairwise(bounds):
            counts[1:] += np.bincount(chunks[low:high], minlength=words)
        offsets = np.cumsum(counts)
        free = offsets[:-1].copy()
        postings = _Spool().allocate(len(texts))
        for low, high in itertools.pairwise(bounds):
            run = chunks[low:high]
            begins = np.flatnonzero(np.concatenate([[True], run[1:] != run[:-1]]))
            sizes = np.diff(np.concatenate([begins, [len(run)]]))
            words_of_run = run[begins] if len(run) else run
            if not len(run):
                continue
            postings[_spread(free[words_of_run], free[words_of_run] + sizes)] = texts[low:high]
            free[words_of_run] += sizes
        return offsets, postings


class _Spool:
    """An array of 32-bit integers that grows in a temporary file."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (lives with the array)
        self._count = 0

    def write(self, values: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(values, np.int32).data)
        self._count += len(values)

    def array(self) -> np.ndarray:
        self._file.flush()
        if not self._count:
            return np.zeros(0, np.int32)
        return np.memmap(self._file, np.int32, "r", shape=(self._count,))

    def allocate(self, count: int) -> np.ndarray:
        return np.memmap(self._file, np.int32, "w+", shape=(count,)) if count else np.zeros(0, int)


def _spread(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """start, …, end - 1 of each pair, one after the other."""
    sizes = ends - starts
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(sizes.sum())


def _pieces(texts: np.ndarray, starts: np.ndarray) -> Iterator[np.ndarray]:
    """The texts in pieces of some `_GATHERED` chunks."""
    sizes = np.cumsum(starts[texts + 1] - starts[texts])
    if len(texts):
        cuts = np.searchsorted(sizes, np.arange(_GATHERED, sizes[-1], _GATHERED))
        yield from (piece for piece in np.split(texts, np.unique(cuts)) if len(piece))
