"""The frames of a training: a cache that all runs share, and decoding before the next step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from transformers import TrainerCallback

from p2r.files.disk_cache import cache_folder
from p2r.records import Question
from p2r.runs.recipe import VideoSettings
from p2r.video import FrameCache
from p2r.video.decoders import WORKERS

GIB = 2**30


def shared_frames(video: VideoSettings) -> FrameCache:
    """Return a cache of frames; on disk it is shared with other runs and OS processes."""
    if not video.cache_gb:
        return FrameCache(None)
    return FrameCache(cache_folder() / "frames", disk_bytes=int(video.cache_gb * GIB))


class ReadAhead:
    """Decodes frames in the background before they are needed.

    `frames_of` fills a cache, which the training reads. At most `LIMIT` videos wait; others are
    decoded when they are needed.
    """

    LIMIT = 64

    def __init__(self, frames_of: Callable[[Question], Any]) -> None:
        self.frames_of = frames_of
        self._threads = ThreadPoolExecutor(WORKERS, "read-ahead")
        self._waiting = threading.Semaphore(self.LIMIT)

    def submit(self, *questions: Question) -> None:
        """Start to decode the media of some questions. Errors are raised when they are used."""
        for question in questions:
            if self._waiting.acquire(blocking=False):
                future = self._threads.submit(self.frames_of, question)
                future.add_done_callback(lambda _: self._waiting.release())

    def close(self) -> None:
        """Stop. Videos whose decoding has not begun are not decoded."""
        self._threads.shutdown(cancel_futures=True)


class ReadNextStep(TrainerCallback):
    """Decodes the frames of a later batch of rollouts while a batch is in use.

    `asked` are the questions of the rollouts of every batch on this worker, in order. A batch lasts
    `updates` steps. `distance` 1 decodes the next batch, 2 the one after it.
    """

    def __init__(
        self,
        ahead: ReadAhead,
        asked: Sequence[Sequence[Question]],
        updates: int,
        distance: int = 1,
    ) -> None:
        self.ahead, self.asked, self.updates, self.distance = ahead, asked, updates, distance

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start to decode a later batch when a batch begins."""
        batch, used = divmod(state.global_step, self.updates)
        if not used:
            later = batch + self.distance
            for questions in self.asked[later : later + 1]:
                self.ahead.submit(*{question.id: question for question in questions}.values())
