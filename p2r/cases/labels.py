"""What people say of cases: is the observation sufficient, what went wrong, a comment.

Labels are kept in `labels.jsonl` beside a run's cases: JSON lines that are only ever appended. Of
several labels of one annotator for one case the last counts, so that a mind can be changed and the
former opinion is not lost. Several annotators and several processes may write to one file.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import lock_descriptor
from pydantic import ValidationError

from p2r.errors import UserError
from p2r.files.safe_text import spreadsheet_cell
from p2r.records import Case, Record

LABELS = "labels.jsonl"
# The longest text of each kind: longer ones are refused, not cut.
MAX_COMMENT, MAX_NAME, MAX_KIND = 20_000, 100, 100


class Label(Record):
    """One annotator's word on one case.

    `sufficient`: can the right answer be told from the observation alone; None: the annotator
    cannot say. `failure`: a kind of `selection.FAILURES`, or the annotator's own word. `blind`:
    given before the judge's verdict was shown. `time`: UTC, ISO 8601.
    """

    case: str
    annotator: str
    sufficient: bool | None = None
    failure: str = ""
    comment: str = ""
    blind: bool = False
    time: str = ""


class LabelFile:
    """The labels of a run (its folder, or the file itself).

    Reading takes in what other processes appended since. A line that was torn when its writer was
    killed is passed over, and cut off by the next label. Threads may share it.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.path = path if path.suffix == ".jsonl" else path / LABELS
        self._lock = threading.Lock()
        self._labels: list[Label] = []
        self._faults: list[str] = []
        self._read_to = self._line = 0
        self._inode: int | None = None

    def add(self, label: Label) -> Label:
        """Append a label, with the time where it has none, and wait until it is on disk.

        Raises `UserError` for a label without a case or an annotator or with too long a text, and
        `OSError` where the file cannot be written.
        """
        label = _checked(label)
        line = json.dumps(label.model_dump(mode="json"), ensure_ascii=True).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock_descriptor(descriptor)
            size = _mend(descriptor)
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        return label

    def labels(self) -> list[Label]:
        """All labels, in the order they were given."""
        with self._lock:
            self._read()
            return [*self._labels]

    def faults(self) -> list[str]:
        """The lines that are no labels, with the reason."""
        with self._lock:
            self._read()
            return [*self._faults]

    def latest(self) -> dict[tuple[str, str], Label]:
        """The label that counts, by (annotator, case)."""
        return latest_labels(self.labels())

    def of_case(self, case_id: str) -> list[Label]:
        """The labels of a case that count, one per annotator."""
        return [label for (_, case), label in self.latest().items() if case == case_id]

    def has_labelled(self, case_id: str, annotator: str) -> bool:
        """Whether an annotator has labelled a case: in blind mode the verdict is shown from then
        on.
        """
        return (annotator.strip(), case_id) in self.latest()

    def _read(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return
        if status.st_ino != self._inode or status.st_size < self._read_to:
            self._labels, self._faults, self._read_to, self._line = [], [], 0, 0
            self._inode = status.st_ino
        with self.path.open("rb") as lines:
            lines.seek(self._read_to)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self._line += 1
                self._read_to += len(line)
                try:
                    self._labels.append(Label.model_validate(json.loads(line)))
                except (ValueError, RecursionError) as error:
                    self._faults.append(f"{self.path}, line {self._line}: {_reason(error)}")


def latest_labels(labels: Iterable[Label]) -> dict[tuple[str, str], Label]:
    """The last label of each (annotator, case), in the order of their first ones."""
    return {(label.annotator, label.case): label for label in labels}


def sample_cases(case_ids: Iterable[str], count: int = 200, seed: int = 0) -> list[str]:
    """Cases to label: the same ones for everybody who asks with the same seed.

    A case is drawn by a hash of its id, so that a sample stays as it is, but for single cases,
    while a run grows. The paper labels 200.
    """

    def place(case_id: str) -> bytes:
        return hashlib.sha256(f"{seed}\n{case_id}".encode("utf-8", "surrogatepass")).digest()

    return sorted(set(case_ids), key=lambda case_id: (place(case_id), case_id))[:count]


def hide_verdict(case: Case) -> Case:
    """The case without the verdict and all that tells it: what an annotator sees in blind mode."""
    hidden = {"verdict": None, "perception": None, "perception_advantage": None, "tags": []}
    return case.model_copy(update=hidden)


def hide_verdict_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a list without the verdict and all that tells it."""
    return {name: _HIDDEN[name] if name in _HIDDEN else _shown(name, row[name]) for name in row}


_HIDDEN = {"verdict": "unknown", "judged": False, "failure": None, "tags": None}


def _shown(name: str, value: Any) -> Any:
    return None if name.startswith(("verdict.", "perception")) else value


def export_labels(labels: Iterable[Label], kind: str = "csv") -> Iterator[str]:
    """The labels as text of a file, piece by piece: "csv" (for spreadsheets) or "jsonl"."""
    if kind == "jsonl":
        for label in labels:
            yield json.dumps(label.model_dump(mode="json"), ensure_ascii=False) + "\n"
    elif kind == "csv":
        names = list(Label.model_fields)
        yield "\ufeff" + _csv_line(names)
        for label in labels:
            yield _csv_line([spreadsheet_cell(getattr(label, name)) for name in names])
    else:
        raise UserError(f"labels are exported as csv or jsonl, not as {kind!r}")


def _csv_line(values: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


def _checked(label: Label) -> Label:
    clean = {
        name: value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        for name, value in label
        if isinstance(value, str)
    }
    clean["annotator"] = clean["annotator"].strip()
    clean["failure"] = clean["failure"].strip()
    clean["time"] = clean["time"] or datetime.now(UTC).isoformat(timespec="seconds")
    if not clean["case"]:
        raise UserError("a label needs a case")
    if not clean["annotator"]:
        raise UserError("a label needs the name of its annotator")
    for name, longest in (("annotator", MAX_NAME), ("failure", MAX_KIND), ("comment", MAX_COMMENT)):
        if len(clean[name]) > longest:
            raise UserError(
                f"the {name} is too long: {len(clean[name])} characters, at most {longest}"
            )
    return label.model_copy(update=clean)


def _mend(descriptor: int) -> int:
    """Cut off an unfinished last line; returns the size of the file."""
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - 2**16)
        piece = os.pread(descriptor, end - start, start)
        line_end = piece.rfind(b"\n")
        if line_end >= 0:
            end = start + line_end + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
    return end


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0]
