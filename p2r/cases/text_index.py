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
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from p2r.cases.spool import Spool

_GATHERED = 2**19  # entries of an array looked at in one piece
_ONE_BY_ONE = 512  # so many of the most frequent chunks are joined before the rest is
_THREADS = min(4, os.cpu_count() or 1)
_COMPARED = 8  # so many numbers are compared one after the other
_BATCH = 2**24  # bytes of text that are taken apart together


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
        for batch in _joined(batches):
            build.add(batch)
        self.vocabulary = pa.array(build.numbers, pa.string())
        self.cases = np.concatenate([*build.cases, np.zeros(0, np.int32)])
        self.fields = np.concatenate([*build.fields, np.zeros(0, np.int8)])
        self.starts = np.concatenate([[0], np.cumsum(np.concatenate([*build.lengths, [0]]))])
        self._chunks = build.chunks
        self.offsets, self._postings = build.invert(len(self.vocabulary))
        pa.default_memory_pool().release_unused()

    def find(self, chunks: Sequence[str], fields: Sequence[int]) -> np.ndarray:
        """The cases, ascending, that hold the chunks in a row in one of the fields."""
        asked = np.isin(self.fields, list(fields))
        if len(chunks) == 1:
            held = asked & self._texts_with(pc.match_substring(self.vocabulary, chunks[0]))
        else:
            held = self._texts_in_a_row(chunks, asked)
        found = np.zeros(self.cases.max(initial=-1) + 1, bool)
        found[self.cases[held]] = True
        return np.flatnonzero(found)

    def _texts_with(self, chosen: pa.Array) -> np.ndarray:
        """Which texts hold one of the chosen chunks of the vocabulary."""
        postings = self._postings.array()
        numbers = np.flatnonzero(np.asarray(chosen))
        held = np.zeros(len(self.cases), bool)
        frequent = np.argsort(self.offsets[numbers] - self.offsets[numbers + 1])
        for number in numbers[frequent[:_ONE_BY_ONE]]:
            held[postings[self.offsets[number] : self.offsets[number + 1]]] = True
        rest = np.sort(numbers[frequent[_ONE_BY_ONE:]])
        for some in _pieces(rest, self.offsets):
            held[postings[_spread(self.offsets[some], self.offsets[some + 1])]] = True
        self._postings.forget()
        return held

    def _texts_in_a_row(self, chunks: Sequence[str], asked: np.ndarray) -> np.ndarray:
        """Which of the asked texts hold the chunks in a row."""
        whole = [pc.equal(self.vocabulary, chunk) for chunk in chunks[1:-1]]
        first = pc.ends_with(self.vocabulary, chunks[0])
        chosen = [first, *whole, pc.starts_with(self.vocabulary, chunks[-1])]
        for part in chosen:
            asked = asked & self._texts_with(part)
        looked_for = [_Chunk(step, np.asarray(part)) for step, part in enumerate(chosen)]
        # A few numbers are quickly compared; of many, only the rarest is looked for everywhere.
        first = [chunk for chunk in looked_for if chunk.numbers]
        first = first or [min(looked_for, key=self._occurrences)]
        order = first, [chunk for chunk in looked_for if chunk not in first]
        held = np.zeros(len(self.cases), bool)
        with ThreadPoolExecutor(_THREADS) as pool:  # NumPy and Arrow work side by side in them
            pieces = _pieces(np.flatnonzero(asked), self.starts)
            for texts in pool.map(lambda some: self._in_a_row(some, *order), pieces):
                held[texts] = True
                self._chunks.forget()
        return held & asked

    def _occurrences(self, chunk: _Chunk) -> int:
        return int((self.offsets[1:] - self.offsets[:-1])[chunk.mask].sum())

    def _in_a_row(
        self, texts: np.ndarray, first: Sequence[_Chunk], then: Sequence[_Chunk]
    ) -> np.ndarray:
        """Which texts, of these or between them, hold the chunks one after the other."""
        stored = self._chunks.array()
        if texts[-1] - texts[0] < 4 * len(texts):  # close together: all between are read too
            texts = np.arange(texts[0], texts[-1] + 1)
            row = stored[self.starts[texts[0]] : self.starts[texts[-1] + 1]]
        else:
            row = stored[_spread(self.starts[texts], self.starts[texts + 1])]
        ends = np.cumsum(self.starts[texts + 1] - self.starts[texts])
        count = len(first) + len(then)
        last = len(row) - count + 1
        if last <= 0:
            return texts[:0]
        found = np.ones(last, bool)
        for chunk in first:
            found &= chunk.is_in(row[chunk.step : chunk.step + last])
        at = np.flatnonzero(found)
        for chunk in then:
            at = at[chunk.holds(row[at + chunk.step])]
        owner = np.searchsorted(ends, at, "right")
        return texts[owner[owner == np.searchsorted(ends, at + count - 1, "right")]]


class _Chunk:
    """One chunk of a query: at which step it comes, and which of the vocabulary it may be."""

    def __init__(self, step: int, mask: np.ndarray) -> None:
        self.step, self.mask = step, mask
        self._bytes = pa.array(mask.view(np.uint8))
        numbers = np.flatnonzero(mask).tolist()
        self.numbers = numbers if len(numbers) <= _COMPARED else []

    def is_in(self, row: np.ndarray) -> np.ndarray:
        """Where a row of numbers has one of its own."""
        if not self.numbers:
            return self.holds(row)
        found = row == self.numbers[0]
        for number in self.numbers[1:]:
            found |= row == number
        return found

    def holds(self, row: np.ndarray) -> np.ndarray:
        """The same by looking every number up."""
        # Arrow's take reads 32-bit indices as they are; numpy's copies them to 64 bits first.
        return pc.take(self._bytes, pa.array(row), boundscheck=False).to_numpy().view(bool)


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
            # Each segment larger than the former: their number grows like a square root.
            enough = self.SMALL * (1 + len(self._segments))
            if sum(len(texts.texts) for texts in self._loose) > enough and not self._busy():
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
        return union(found)

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
        self.chunks = Spool()
        # Sorted pairs of (chunk, text), a run per batch.
        self.pairs_chunk, self.pairs_text = Spool(), Spool()
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

    def invert(self, words: int) -> tuple[np.ndarray, Spool]:
        """(offsets, postings): the texts of chunk i are postings[offsets[i]:offsets[i + 1]]."""
        chunks, texts = self.pairs_chunk.array(), self.pairs_text.array()
        bounds = [0, *itertools.accumulate(self.runs)]
        counts = np.zeros(words + 1, np.int64)
        for low, high in itertools.pairwise(bounds):
            counts[1:] += np.bincount(chunks[low:high], minlength=words)
            self.pairs_chunk.forget()
        offsets = np.cumsum(counts)
        free = offsets[:-1].copy()
        spool = Spool(bounds[-1])
        postings = spool.array()
        for low, high in itertools.pairwise(bounds):
            run = chunks[low:high]
            begins = np.flatnonzero(np.concatenate([[True], run[1:] != run[:-1]])[: len(run)])
            sizes = np.diff([*begins, len(run)])
            known = run[begins]
            postings[_spread(free[known], free[known] + sizes)] = texts[low:high]
            free[known] += sizes
            for part in (self.pairs_chunk, self.pairs_text, spool):
                part.forget()
        return offsets, spool


def union(sets: Iterable[np.ndarray]) -> np.ndarray:
    """The numbers of ascending sets, ascending; sorted only where there is more than one."""
    some = [numbers for numbers in sets if len(numbers)]
    if len(some) == 1:
        return some[0]
    return np.unique(np.concatenate(some)) if some else np.zeros(0, np.int64)


def _joined(batches: Iterable[Texts]) -> Iterator[Texts]:
    """The texts in batches of some size: a word list is looked up once per batch."""
    some: list[Texts] = []
    size = 0
    for batch in batches:
        some.append(batch)
        size += batch.texts.nbytes
        if size >= _BATCH:
            yield _join(some)
            some, size = [], 0
    if some:
        yield _join(some)


def _join(batches: Sequence[Texts]) -> Texts:
    return Texts(
        np.concatenate([batch.cases for batch in batches]),
        np.concatenate([batch.fields for batch in batches]),
        pa.concat_arrays([batch.texts for batch in batches]),
    )


def _pieces(items: np.ndarray, bounds: np.ndarray) -> Iterator[np.ndarray]:
    """The items in pieces of some `_GATHERED` entries; item i has bounds[i] to bounds[i + 1]."""
    if len(items):
        sizes = np.cumsum(bounds[items + 1] - bounds[items])
        cuts = np.searchsorted(sizes, np.arange(_GATHERED, sizes[-1], _GATHERED))
        yield from (piece for piece in np.split(items, np.unique(cuts)) if len(piece))


def _spread(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """start, …, end - 1 of each pair, one after the other."""
    sizes = ends - starts
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(sizes.sum())
