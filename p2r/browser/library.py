"""The opened runs: their cases, where their media lie, their labels and tokenizers."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from p2r.browser.markup import CaseRow
from p2r.cases.files import CaseFault, case_file
from p2r.cases.labels import CaseLabel, LabelFile, sample_cases
from p2r.cases.selection import LISTED, Filters
from p2r.cases.store import CaseStore
from p2r.errors import MediaError
from p2r.files.media import resolve_media
from p2r.records import Case
from p2r.video import FrameCache, Frames

_FRAME_SETTINGS = ("max_frames", "max_pixels", "factor")
_CACHE_BYTES = 2**27
SAMPLE_SIZE = 200  # as in the paper
GROUP_COLUMNS = (*LISTED, "trace.perception_tokens")


class Library:
    """The cases of some runs and what lies beside them.

    Media are asked for by case, never by path: only files that a case names, below its run's media
    root, can be read. Methods may be called from several threads.
    """

    def __init__(self, store: CaseStore, media_root: str | Path | None = None) -> None:
        self.store = store
        self.folders = _name_folders(case_file(run).resolve().parent for run in store.paths)
        self._media_root = Path(media_root) if media_root else None
        self._frames = FrameCache(None, max_bytes=_CACHE_BYTES)
        self._labels = {folder: LabelFile(folder) for folder in self.folders.values()}
        self._sample: tuple[int, list[str]] = (-1, [])
        self._lock = threading.Lock()

    # ---- media

    def media_root(self, run: Path) -> Path:
        """Under which the media of a run lie."""
        return self._media_root or find_media_root(run)

    def find_media(self, case: Case) -> Path:
        """The media file of a case; raises `MediaError` where it is refused or absent."""
        root = self.media_root(self.store.run_of(case.id))
        path = resolve_media(root, case.question.path)
        if not path.is_file():
            raise MediaError(case.question.path, "there is no such file below the media root")
        return path

    def sample_frames(self, case: Case) -> Frames:
        """The frames the model saw: the file sampled again with the settings the trace recorded.

        Raises `MediaError`, `VideoError`, or `ValueError` for recorded settings that make no sense.
        """
        recorded = {name: case.trace.media.get(name) for name in _FRAME_SETTINGS}
        settings = {name: value for name, value in recorded.items() if isinstance(value, int)}
        return self._frames.get(self.find_media(case), **settings)

    # ---- around a case

    def tokenizer(self, case: Case) -> Any | None:
        """The tokenizer of the models of a case's run; None where the run keeps none."""
        return _load_tokenizer(self.store.run_of(case.id))

    def group(self, case: Case) -> list[CaseRow]:
        """The rollouts of the case's question at its step, by their number."""
        t = case.trace
        return self.store.group(t.question_id, t.run, t.stage, t.step, GROUP_COLUMNS)

    # ---- labels

    def label_file(self, case_id: str) -> LabelFile:
        """The labels of the run that holds a case; raises `StoreError` for an unknown case."""
        return self._labels[self.store.run_of(case_id)]

    def faults(self) -> list[CaseFault]:
        """What cannot be read of the cases and of their labels, and why."""
        lines = [
            CaseFault(file.path, reason)
            for file in self._labels.values()
            for reason in file.faults()
        ]
        return [*self.store.faults, *lines]

    def labels(self) -> list[CaseLabel]:
        """The labels of all opened runs."""
        return [label for file in self._labels.values() for label in file.labels()]

    def sample(self) -> list[str]:
        """The cases to label: the same for everybody, judged ones of a readable observation."""
        count = self.store.count()
        with self._lock:
            if self._sample[0] != count:
                judged = [
                    case_id
                    for verdict in ("yes", "no")
                    for case_id in self.store.values("id", Filters(verdict=verdict, fault=False))
                ]
                self._sample = (count, sample_cases(judged, SAMPLE_SIZE))
            return self._sample[1]

    def next_to_label(self, annotator: str, but: str = "") -> str | None:
        """The first case of the sample without a label of this annotator."""
        done = {label.case for label in self.labels() if label.annotator == annotator}
        return next((case for case in self.sample() if case not in done and case != but), None)


def find_media_root(run: Path) -> Path:
    """A run's media: the folder that its file `data_root` names, else `media`, else the run."""
    named = run / "data_root"
    if named.is_file():
        return run / named.read_text(encoding="utf-8").strip()
    return run / "media" if (run / "media").is_dir() else run


def _name_folders(folders: Any) -> dict[str, Path]:
    """Run folders by their names; of equal names the later ones are numbered."""
    named: dict[str, Path] = {}
    for folder in dict.fromkeys(folders):
        name, n = folder.name, 2
        while name in named:
            name, n = f"{folder.name} ({n})", n + 1
        named[name] = folder
    return named


@lru_cache(maxsize=16)
def _load_tokenizer(run: Path) -> Any | None:
    """The tokenizer of one of a run's own models: they all have the same."""
    from tokenizers import Tokenizer

    for file in sorted(run.glob("*/model/tokenizer.json")):
        if run not in file.resolve().parents:
            continue
        try:
            return Tokenizer.from_file(str(file))
        except Exception:
            continue
    return None
