"""The frames of a training: a cache that all runs share, and decoding ahead of the next step."""

from __future__ import annotations

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


class ReadAhead(TrainerCallback):
    """Decodes the frames of the next step in the background while a step runs.

    `frames_of` fills a cache that the step reads. `asked` are the questions of every batch of
    rollouts on this worker, in order. A batch lasts `updates` steps.
    """

    def __init__(
        self,
        frames_of: Callable[[Question], Any],
        asked: Sequence[Sequence[Question]],
        updates: int,
    ) -> None:
        self.frames_of, self.asked, self.updates = frames_of, asked, updates
        self._threads = ThreadPoolExecutor(WORKERS, "read-ahead")

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start to decode the next batch when a batch begins."""
        batch, used = divmod(state.global_step, self.updates)
        if not used:
            for questions in self.asked[batch + 1 : batch + 2]:
                self.submit(*questions)

    def submit(self, *questions: Question) -> None:
        """Start to decode the media of some questions; an error is raised where they are used."""
        for question in questions:
            self._threads.submit(self.frames_of, question)

    def close(self) -> None:
        """Stop; videos that are not begun are not decoded."""
        self._threads.shutdown(cancel_futures=True)
