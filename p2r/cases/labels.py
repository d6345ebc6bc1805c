"""Labels that people give to cases: is the observation sufficient, what went wrong, a comment.

Labels are in `labels.jsonl` beside the cases of a run, as JSON lines that are only appended. If an
annotator labels a case again, the last label counts and the older one stays in the file. Several
annotators and several OS processes may write to one file.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from p2r.cases.export import csv_lines
from p2r.cases.files import fingerprint_of, reason_of
from p2r.errors import UserError
from p2r.files.journal import append_whole, cut_torn_line
from p2r.records import Case, Record

LABELS = "labels.jsonl"
# The longest text of each kind. Longer texts are refused, not cut.
MAX_COMMENT, MAX_NAME, MAX_KIND = 20_000, 100, 100


class CaseLabel(Record):
    """The label of one annotator for one case.

    `sufficient`: whether the observation alone is enough to give the right answer; None: cannot
    say. `failure`: a kind of `selection.FAILURES`, or another word. `blind`: labelled before the
    verdict of the judge was shown. `time`: UTC, ISO 8601.
    """

    case: str
    annotator: str
    sufficient: bool | None = None
    failure: str = ""
    comment: str = ""
    blind: bool = False
    time: str = ""


class LabelFile:
    """The labels of a run, given by its folder or the file itself.

    Reading includes the lines that other OS processes appended. If a writer is killed in the
    middle of a line, readers skip the line and the next label removes it. A file that was deleted
    or overwritten is read again from its start. Threads may share this object.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.path = path if path.suffix == ".jsonl" else path / LABELS
        self._lock = threading.Lock()
        self._forget()

    def add(self, label: CaseLabel) -> CaseLabel:
        """Append a label, add the time if it has none, and wait until it is on disk.

        Raises `UserError` if the case or the annotator is missing or a text is too long, and
        `OSError` if the file cannot be written.
        """
        label = _checked(label)
        line = json.dumps(label.model_dump(mode="json"), ensure_ascii=True).encode() + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock_descriptor(descriptor)
            append_whole(descriptor, line, cut_torn_line(descriptor, self.path))
        finally:
            os.close(descriptor)
        return label

    def labels(self) -> list[CaseLabel]:
        """Return all labels, in written order."""
        with self._lock:
            self._read()
            return [*self._labels]

    def faults(self) -> list[str]:
        """Return the lines that are not labels, with the reasons."""
        with self._lock:
            self._read()
            return [*self._faults]

    def latest(self) -> dict[tuple[str, str], CaseLabel]:
        """Return the last label of each (annotator, case)."""
        return latest_labels(self.labels())

    def of_case(self, case_id: str) -> list[CaseLabel]:
        """Return the last label of each annotator for a case."""
        return [label for (_, case), label in self.latest().items() if case == case_id]

    def has_labelled(self, case_id: str, annotator: str) -> bool:
        """Return whether an annotator has labelled a case. Blind mode then shows the verdict."""
        return (annotator.strip(), case_id) in self.latest()

    def _forget(self) -> None:
        self._labels: list[CaseLabel] = []
        self._faults: list[str] = []
        self._read_to = self._line = 0
        self._fingerprint = b""

    def _read(self) -> None:
        try:
            lines = self.path.open("rb")
        except FileNotFoundError:
            self._forget()
            return
        with lines:
            if self._read_to and fingerprint_of(lines, self._read_to) != self._fingerprint:
                self._forget()
            before = self._read_to
            lines.seek(before)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._line += 1
                self._read_to += len(line)
                try:
                    self._labels.append(CaseLabel.model_validate(json.loads(line)))
                except (ValueError, RecursionError) as error:
                    self._faults.append(f"{self.path}, line {self._line}: {reason_of(error)}")
            if self._read_to != before:
                self._fingerprint = fingerprint_of(lines, self._read_to)


def latest_labels(labels: Iterable[CaseLabel]) -> dict[tuple[str, str], CaseLabel]:
    """Return the last label of each (annotator, case), in the order of the first labels."""
    return {(label.annotator, label.case): label for label in labels}


def sample_cases(case_ids: Iterable[str], count: int = 200, seed: int = 0) -> list[str]:
    """Return cases to label; the same seed gives the same sample.

    Cases are drawn by a hash of their ids, so a sample changes little while a run grows. The paper
    labels 200 cases.
    """

    def place(case_id: str) -> bytes:
        return hashlib.sha256(f"{seed}\n{case_id}".encode("utf-8", "surrogatepass")).digest()

    return heapq.nsmallest(count, set(case_ids), key=lambda case_id: (place(case_id), case_id))


def hide_verdict(case: Case) -> Case:
    """Return the case without the verdict and every field that reveals it, for blind mode."""
    hidden: dict[str, Any] = {
        "verdict": None,
        "accuracy": None,
        "perception": None,
        "reasoning": None,
        "perception_advantage": None,
        "reasoning_advantage": None,
        "tags": [],
        # The scene tells whether the observation is true.
        "question": case.question.model_copy(
            update={"meta": {k: v for k, v in case.question.meta.items() if k != "scene"}}
        ),
    }
    return case.model_copy(update=hidden)


def export_labels(labels: Iterable[CaseLabel], kind: str = "csv") -> Iterator[str]:
    """Yield the labels as lines of a file: "csv" (for spreadsheets) or "jsonl"."""
    if kind == "jsonl":
        for label in labels:
            yield json.dumps(label.model_dump(mode="json"), ensure_ascii=False) + "\n"
    elif kind == "csv":
        yield from csv_lines(CaseLabel.model_fields, (label.model_dump() for label in labels))
    else:
        raise UserError(f"labels cannot be exported as {kind!r}: use csv or jsonl")


def _checked(label: CaseLabel) -> CaseLabel:
    clean = {
        name: value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        for name, value in label
        if isinstance(value, str)
    }
    clean["annotator"] = clean["annotator"].strip()
    clean["failure"] = clean["failure"].strip()
    clean["time"] = clean["time"] or datetime.now(UTC).isoformat(timespec="seconds")
    if not clean["case"]:
        raise UserError("a label needs a case: the id is missing")
    if not clean["annotator"]:
        raise UserError("a label needs an annotator: enter a name")
    for name, longest in (("annotator", MAX_NAME), ("failure", MAX_KIND), ("comment", MAX_COMMENT)):
        if len(clean[name]) > longest:
            raise UserError(
                f"the {name} is too long: {len(clean[name])} characters, at most {longest}"
            )
    return label.model_copy(update=clean)
