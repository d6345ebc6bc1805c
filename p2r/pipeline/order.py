"""The order of the traces in the SFT set: the order of a generation without an interruption.

The journal has the traces in the order of writing. A kill, a resume or shards change this order. So
generation notes which samples it asks for. Sorting these samples as the engine does gives the same
order again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from p2r.engines.responses import ResponseJournal
from p2r.files.journal import MergedJournal, exclusive, journal_files
from p2r.runs import read_json, write_json


def note_order(journal: ResponseJournal, keys: Sequence[str], window: int) -> None:
    """Note the samples that a generation asks for. Samples that were noted before keep their place.

    `window`: the number of samples that the engine sorts by length at once. A journal that an older
    version began keeps its order of writing.
    """
    path = _path(journal)
    with exclusive(path.with_name(".order.lock")):
        files = (*journal_files(journal.path), *journal_files(journal.errors_path))
        begun = any(file.stat().st_size for file in files)
        if begun and not path.is_file():
            return
        rounds = read_json(path) if begun else []
        noted = {key for each in rounds for key in each["keys"]}
        if new := [key for key in keys if key not in noted]:
            write_json(path, [*rounds, {"window": window, "keys": new}])


def ordered_records(journal: ResponseJournal) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the key and the record of every trace, in the noted order.

    Holds the traces of one window in memory. Traces that are not noted come last.
    """
    if not _path(journal).is_file():
        yield from journal.records()
        return
    rounds = read_json(_path(journal))
    failed = {error["key"] for error in journal.errors()}
    noted: set[str] = set()
    with MergedJournal(journal.path) as traces:
        for each in rounds:
            noted.update(each["keys"])
            keys = [key for key in each["keys"] if key not in failed]
            for start in range(0, len(keys), each["window"]):
                names = keys[start : start + each["window"]]
                found = [(key, record) for key in names if (record := traces.get(key)) is not None]
                yield from sorted(found, key=lambda pair: _length(pair[1]), reverse=True)
        for key in itertools.filterfalse(noted.__contains__, traces.keys()):
            if (record := traces.get(key)) is not None:
                yield key, record


def _path(journal: ResponseJournal) -> Path:
    return journal.path.with_suffix(".order.json")


def _length(record: dict[str, Any]) -> tuple[int, int]:
    """Return the pixels and the text length of a trace's question, as the engine compares them."""
    question, media = record.get("question", {}), record.get("trace", {}).get("media", {})
    clips = [media, *media.get("more", [])] if media else []
    pixels = sum(len(c["indices"]) * c["height"] * c["width"] for c in clips)
    return pixels, sum(map(len, [question.get("problem", ""), *question.get("options", [])]))
