"""Check a file of questions or traces: types, media, duplicates, bad records."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from p2r.errors import MediaError
from p2r.files.media import find_content_fault, resolve_media
from p2r.formats import BadRecord, content_of, read_questions, settle_data_type
from p2r.formats.fields import INFERRED
from p2r.pipeline.status import group_reasons

EXAMPLES = 5


def check_data(path: str | Path, data_root: str | Path | None = None) -> dict[str, Any]:
    """Count types by modality, sources, media, duplicates and bad records of a file.

    It reads one record at a time. A media file counts once per source: as `have` if it exists below
    `data_root` (default: the file's folder), as `unusable` if its path leaves this folder, or if it
    is empty or text. A folder of pictures counts as a file. Media are not decoded. Duplicates are
    repeated ids, records with the same question about the same media, and repeats (both the same:
    only these are skipped in training). `inferred` counts what records do not say. Raises the
    errors of `read_questions`.
    """
    path = Path(path)
    root = Path(data_root) if data_root else (path if path.is_dir() else path.parent)
    bad: Counter[str] = Counter()
    places: list[str] = []

    def report(record: BadRecord) -> None:
        bad[record.reason] += 1
        if len(places) < EXAMPLES:
            places.append(str(record))

    mix: dict[str, Counter[str]] = {"image": Counter(), "video": Counter()}
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    ids, asked, both, seen = _Seen(), _Seen(), _Seen(), _Seen()
    inferred: Counter[str] = Counter()
    missing: list[str] = []
    records = 0
    for question in read_questions(path, report):
        records += 1
        question = settle_data_type(question, root)
        inferred.update(question.meta.get(INFERRED, ()))
        mix[question.data_type][question.problem_type] += 1
        counts = sources[question.source]
        counts["records"] += 1
        ids.add(question.id)
        asked.add(content_of(question))
        both.add(f"{question.id}\0{content_of(question)}")
        if not question.media:
            counts["text only"] += 1
        for medium in question.media:
            if seen.add(f"{question.source}\0{medium.path}"):
                continue
            state, reason = _media_state(root, medium.path)
            counts[state] += 1
            if state != "have" and len(missing) < EXAMPLES:
                missing.append(f"{medium.path}: {reason}" if reason else medium.path)
    totals = sum(sources.values(), Counter())
    return {
        "file": str(path),
        "data_root": str(root),
        "records": records,
        "types": {media: dict(row.most_common()) for media, row in mix.items() if row},
        "sources": {name: dict(row) for name, row in sorted(sources.items())},
        "media": {state: totals[state] for state in ("have", "missing", "unusable")},
        "missing_examples": missing,
        "duplicates": {
            "ids": ids.repeated,
            "questions": asked.repeated,
            "repeats": both.repeated,
        },
        "inferred": dict(inferred),
        "bad_records": bad.total(),
        "bad_reasons": group_reasons(bad),
        "bad_examples": places,
    }


class _Seen:
    """A set of texts, stored as eight bytes of their hashes; counts repeated texts."""

    def __init__(self) -> None:
        self._hashes: set[bytes] = set()
        self.repeated = 0

    def add(self, text: str) -> bool:
        """Add a text; return whether it was in the set already."""
        mark = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        known = mark in self._hashes
        self.repeated += known
        self._hashes.add(mark)
        return known


def _media_state(root: Path, relative: str) -> tuple[str, str]:
    """Return "have", "missing" or "unusable", and why a file is unusable."""
    try:
        path = resolve_media(root, relative)
        if not path.exists():
            return "missing", ""
        reason = find_content_fault(path)
    except MediaError as error:
        return "unusable", error.reason
    except OSError as error:
        return "unusable", error.strerror or str(error)
    return ("unusable", reason) if reason else ("have", "")
