"""The opened runs: their cases, media, labels and tokenizers."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from p2r.browser.markup import CaseRow
from p2r.browser.names import NameFile
from p2r.browser.scene import observation_truth
from p2r.browser.thumbnails import Thumbnails
from p2r.cases.files import CaseFault, case_file
from p2r.cases.labels import CaseLabel, LabelFile, sample_cases
from p2r.cases.selection import LISTED, Filters
from p2r.cases.store import CaseStore
from p2r.errors import MediaError, StoreError
from p2r.files.media import resolve_media
from p2r.records import Case
from p2r.runs import kept_root
from p2r.video import FrameCache, Frames

_FRAME_SETTINGS = ("max_frames", "max_pixels", "factor")
_CACHE_BYTES = 2**27
SAMPLE_SIZE = 200  # as in the paper
GROUP_COLUMNS = (*LISTED, "trace.perception_tokens", "trace.observation")
# A visitor's question whether there are new cases is answered from the files at most so often.
LOOK_SECONDS = 2.0


class Progress(NamedTuple):
    """How far an annotator has labelled the sample.

    `place`: the open case's place in the sample, from 1. `following`: the next case to label.
    `former`: the case that the annotator labelled last.
    """

    done: int
    total: int
    place: int | None
    following: str | None
    former: str | None


class Library:
    """The cases of some runs, with the files beside them.

    Media are requested by case, never by path. Only a file that a case names can be read, and only
    below the media folder of its run. Threads may share a library. `read_only`: visitors may
    neither label nor ask. `task`: the cases to label, instead of a sample. Raises `StoreError` for
    a case of the task that the runs do not have.
    """

    def __init__(
        self,
        store: CaseStore,
        media_root: str | Path | None = None,
        read_only: bool = False,
        task: Sequence[str] = (),
    ) -> None:
        self.read_only = read_only
        self._task = list(task)
        for case_id in self._task:
            store.run_of(case_id)
        self.store = store
        self.folders = _name_folders(case_file(run).resolve().parent for run in store.paths)
        self._media_root = Path(media_root) if media_root else None
        self._frames = FrameCache(None, max_bytes=_CACHE_BYTES)
        self._thumbnails = Thumbnails()
        self._labels = {folder: LabelFile(folder) for folder in self.folders.values()}
        self.names = {folder: NameFile(folder) for folder in self.folders.values()}
        self._sample: tuple[int, list[str]] = (-1, [])
        self._lock = threading.Lock()
        self._truths = threading.Lock()
        self._truths_of: int | None = None  # the version of the table whose truths are known
        self._looked = (time.monotonic(), store.count())
        self._find_new_truths()

    # ---- new cases, and the truth of observations

    def look(self) -> int:
        """Add the cases that running stages wrote, at most every few seconds; return the count."""
        when, count = self._looked
        if time.monotonic() - when > LOOK_SECONDS:
            self._looked = (time.monotonic(), count)  # others do not look at the same time
            self.refresh()
        return self._looked[1]

    def refresh(self) -> None:
        """Add the cases that running stages wrote."""
        self.store.refresh()
        self._looked = (time.monotonic(), self.store.count())
        self._find_new_truths()

    def _find_new_truths(self) -> None:
        """Find the truths in the background if the cases have changed since the last search."""
        if self._truths_of != self.store.version and not self._truths.locked():
            threading.Thread(target=self.find_truths, name="p2r-truths", daemon=True).start()

    def find_truths(self) -> None:
        """Fill in whether the observations are true, for the questions with a known scene."""
        unknown = Filters(source=("playground",), truth="unknown")
        with self._truths, contextlib.suppress(StoreError, OSError):
            # New truths make a new version, and the table may change meanwhile.
            while self._truths_of != (version := self.store.version):
                self.store.set_truths(
                    lambda case: observation_truth(case.question, case.trace.observation), unknown
                )
                self._truths_of = version

    # ---- media

    def media_root(self, run: Path) -> Path:
        """Return the media folder of a run."""
        return self._media_root or find_media_root(run)

    def find_media(self, case: Case) -> Path:
        """Return the media file of a case. Raises `MediaError` if it is refused or missing."""
        path = self._media_path(case.id, case.question.path)
        if path.is_dir():
            raise MediaError(case.question.path, "a folder of pictures cannot be played")
        return path

    def _media_path(self, case_id: str, relative: str) -> Path:
        root = self.media_root(self.store.run_of(case_id))
        path = resolve_media(root, relative)
        if not path.exists():
            raise MediaError(relative, "the media folder has no such file")
        return path

    def sample_frames(self, case: Case) -> Frames:
        """Return the frames that the model saw, sampled again with the recorded settings.

        Raises `MediaError`, `VideoError`, or `ValueError` for invalid recorded settings.
        """
        recorded = {name: case.trace.media.get(name) for name in _FRAME_SETTINGS}
        settings = {name: value for name, value in recorded.items() if isinstance(value, int)}
        path = self._media_path(case.id, case.question.path)
        return self._frames.get(path, **settings, **case.question.window)

    def thumbnail(self, case_id: str) -> tuple[str, bytes]:
        """Return the picture of a case for lists: its format, and its content.

        It shows the first medium of the question. Raises `MediaError`, `VideoError` or
        `StoreError` if the picture cannot be made.
        """
        media = self.store.media_of(case_id)
        if not media:
            raise MediaError("", "the question has no media")
        return self._thumbnails.get(self._media_path(case_id, media[0].path), media[0].window)

    # ---- around a case

    def tokenizer(self, case: Case) -> Any | None:
        """Return the tokenizer of the models of a case's run; None if the run has none."""
        return _load_tokenizer(self.store.run_of(case.id))

    def group(self, case: Case) -> Sequence[CaseRow]:
        """Return the rollouts of the case's question at its step, by their number."""
        t = case.trace
        return self.store.group(t.question_id, t.run, t.stage, t.step, GROUP_COLUMNS)

    # ---- labels

    def label_file(self, case_id: str) -> LabelFile:
        """Return the labels of a case's run. Raises `StoreError` for an unknown case."""
        return self._labels[self.store.run_of(case_id)]

    def faults(self) -> list[CaseFault]:
        """Return the parts of the cases and labels that cannot be read, with the reasons."""
        lines = [
            CaseFault(file.path, reason)
            for file in self._labels.values()
            for reason in file.faults()
        ]
        return [*self.store.faults, *lines]

    def labels(self) -> list[CaseLabel]:
        """Return the labels of all opened runs."""
        return [label for file in self._labels.values() for label in file.labels()]

    def sample(self) -> list[str]:
        """Return the cases to label: those of the task, or a sample of the judged, readable ones.

        All annotators get the same cases. A sample changes with the cases of the runs.
        """
        if self._task:
            return self._task
        version = self.store.version
        with self._lock:
            if self._sample[0] != version:
                judged = [
                    case_id
                    for verdict in ("yes", "no")
                    for case_id in self.store.values("id", Filters(verdict=verdict, fault=False))
                ]
                self._sample = (version, sample_cases(judged, SAMPLE_SIZE))
            return self._sample[1]

    def progress(self, annotator: str, case: str = "") -> Progress:
        """Return how far an annotator has labelled the sample, seen from the open case."""
        sample = self.sample()
        mine = [label for label in self.labels() if label.annotator == annotator]
        # Each run has its own file of labels.
        done = [label.case for label in sorted(mine, key=lambda label: label.time)]
        labelled = set(done)
        following = next((one for one in sample if one not in labelled and one != case), None)
        before = [one for one in dict.fromkeys(reversed(done)) if one != case]
        at = sample.index(case) + 1 if case in sample else None
        count = sum(one in labelled for one in sample)
        return Progress(count, len(sample), at, following, next(iter(before), None))


def find_media_root(run: Path) -> Path:
    """Return the media folder of a run: the one in its file `data_root`, `media`, or the run."""
    inside = run / "media" if (run / "media").is_dir() else run
    return kept_root(run) or inside


def _name_folders(folders: Any) -> dict[str, Path]:
    """Return the run folders by name. A repeated name gets a number."""
    named: dict[str, Path] = {}
    for folder in dict.fromkeys(folders):
        name, n = folder.name, 2
        while name in named:
            name, n = f"{folder.name} ({n})", n + 1
        named[name] = folder
    return named


@lru_cache(maxsize=16)
def _load_tokenizer(run: Path) -> Any | None:
    """Return the tokenizer of one of the run's models; they all share one."""
    from tokenizers import Tokenizer

    for file in sorted(run.glob("*/model/tokenizer.json")):
        if run not in file.resolve().parents:
            continue
        try:
            return Tokenizer.from_file(str(file))
        except Exception:
            continue
    return None
