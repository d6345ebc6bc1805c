"""Answer questions with an engine and write each outcome to a journal.

Suspects of an earlier crash are retried first (`p2r.engines.crash_recovery`), then the engine
answers all other questions. A request that fails in a batch is tried once more alone, because
another request of the batch may be the cause. In the end every sample has exactly one outcome.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from p2r.engines import Completion, Engine, Request, Sampling
from p2r.engines.crash_recovery import (
    Crash,
    InProgress,
    RetryWorker,
    Watchdog,
    retry_suspects,
)
from p2r.engines.work_plan import Spread, WorkPlan
from p2r.errors import EngineDied
from p2r.files.journal import Journal
from p2r.records import Question
from p2r.video import Clips, FrameCache, clips_of
from p2r.video.decoders import WORKERS

log = logging.getLogger(__name__)

READ_AHEAD = 32  # clips
Asked = Sequence[tuple[str, Question]]
Answered = list[tuple[Completion, dict[str, Any]]]
Readings = Iterator[tuple[str, Question, Future[Clips]]]


@dataclass(frozen=True)
class Reader:
    """Reads the frames of questions: `settings` of `sample_frames`, media below `root`."""

    settings: Mapping[str, Any]
    root: Path

    def read(self, question: Question) -> Clips:
        """Return the frames of a question (see `p2r.data.read_frames`)."""
        if not question.path:
            return None
        from p2r.data import read_frames

        return read_frames(question, root=self.root, cache=FrameCache(None), **self.settings)

    def read_ahead(self, asked: Asked) -> Readings:
        """Yield each question with its frames, and decode the next ones in the meantime."""
        pool = ThreadPoolExecutor(WORKERS)
        waiting: deque[tuple[str, Question, Future[Clips]]] = deque()
        try:
            for key, question in asked:
                waiting.append((key, question, pool.submit(self.read, question)))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft()
            yield from waiting
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class Answering:
    """Answers `asked` (key to question) and writes each outcome to `journal` or `errors`.

    `record` makes the journal's record from a key, a completion and how its frames were made.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        reader: Reader,
        journals: tuple[Journal, Journal],
        record: Callable[[str, Completion, dict[str, Any]], dict[str, Any]],
        plan: WorkPlan,
    ) -> None:
        self.engine, self.sampling, self.reader = engine, sampling, reader
        self.journal, self.errors = journals
        self.record, self.plan = record, plan

    def run(self, asked: Mapping[str, Question], in_progress: Path, title: str) -> None:
        """Answer all questions. After a crash, call it again to resume.

        `in_progress` is the file of `InProgress`.
        """
        self.asked = asked
        with ExitStack() as stack:
            self.in_progress = stack.enter_context(
                InProgress(in_progress, lambda key: key not in asked)
            )
            self.bar = stack.enter_context(tqdm(total=len(asked), desc=title, unit="trace"))
            self._retry_suspects()
            if self.plan.spread is not None and self.plan.make_model is not None:
                self._answer_elsewhere(self.plan.spread, self.plan.make_model)
                return
            watchdog = stack.enter_context(Watchdog(self.plan.patience, title))
            again: list[str] = []
            self._answer(self._left(), watchdog, again)
            for key in list(again):
                self._answer([(key, asked[key])], watchdog, None)

    def _left(self) -> list[tuple[str, Question]]:
        return [
            (key, question)
            for key, question in self.asked.items()
            if key not in self.journal and key not in self.errors
        ]

    def _make_answerer(
        self, make_model: Callable[[], Engine]
    ) -> Callable[[], Callable[[Asked], Answered]]:
        reader = Reader(dict(self.reader.settings), self.reader.root.resolve())
        return partial(make_answerer, make_model, self.sampling, reader)

    def _retry_suspects(self) -> None:
        suspects = self.in_progress.suspects
        if not suspects:
            return
        log.warning("%d samples were in progress in a crash: retrying them", len(suspects))
        make_model, worker = self.plan.make_model, None
        with ExitStack() as stack:
            if make_model is not None:
                retries = RetryWorker(self._make_answerer(make_model), self.plan.patience)
                worker = stack.enter_context(retries)

            def ask(keys: list[str]) -> Answered | Crash:
                asked = [(key, self.asked[key]) for key in keys]
                if worker is not None:
                    return worker.ask(asked)
                try:
                    return answer_with(self.engine, self.sampling, self.reader)(asked)
                except EngineDied as error:
                    return Crash(f"retried alone, and the engine died: {error}")

            group = 1 if worker is None else self.plan.group
            for keys, answer in retry_suspects(suspects, self.in_progress, ask, group):
                if isinstance(answer, Crash):
                    self._fail(keys[0], answer.reason)
                    continue
                for completion, media in answer:
                    # What failed in a group is answered with all other questions.
                    if completion.error is None or len(keys) == 1:
                        self._end(completion, media)

    def _answer_elsewhere(self, spread: Spread, make_model: Callable[[], Engine]) -> None:
        """Answer in groups on other nodes, then retry the unanswered questions one by one."""
        for size in (self.plan.group, 1):
            for completion, media in spread(self._make_answerer(make_model), self._left(), size):
                if completion.error is None or size == 1:
                    self._end(completion, media)
        for key, _ in self._left():
            self._fail(key, "retried alone on another worker, which crashed")

    def _answer(self, asked: Asked, watchdog: Watchdog, again: list[str] | None) -> None:
        """Answer with the engine; failures that a retry alone may solve go to `again`, if given."""
        media: dict[str, dict[str, Any]] = {}

        def requests() -> Iterator[Request]:
            for key, question, reading in self.reader.read_ahead(asked):
                try:
                    frames = reading.result()
                except (OSError, ValueError) as error:
                    if again is not None and getattr(error, "lost", False):
                        again.append(key)
                    else:
                        self._fail(key, str(error))
                    continue
                media[key] = media_of(frames)
                self.in_progress.begin([key])
                watchdog.alive()
                yield Request(key, question, frames)

        for completion in self.engine.generate(requests(), self.sampling):
            watchdog.alive()
            if completion.error is not None and again is not None:
                again.append(completion.key)
            else:
                self._end(completion, media.pop(completion.key))

    def _end(self, completion: Completion, media: dict[str, Any]) -> None:
        key = completion.key
        if completion.error is not None:
            self._fail(key, completion.error)
            return
        self.journal.append(key, self.record(key, completion, media))
        self._finish(key)

    def _fail(self, key: str, reason: str) -> None:
        question = self.asked[key]
        failure = {
            "question_id": question.id,
            "problem_type": question.problem_type,
            "path": question.path,
            "reason": " ".join(reason.split()),
        }
        self.errors.append(key, failure)
        self._finish(key)

    def _finish(self, key: str) -> None:
        self.in_progress.finish(key)
        self.bar.update()


# ---- in a subprocess or on another node


def make_answerer(
    make_engine: Callable[[], Engine], sampling: Sampling, reader: Reader
) -> Callable[[Asked], Answered]:
    """Return `answer_with` for an engine that is made here."""
    return answer_with(make_engine(), sampling, reader)


def answer_with(engine: Engine, sampling: Sampling, reader: Reader) -> Callable[[Asked], Answered]:
    """Return a function that answers questions: one completion each, and how frames were made."""

    def answer(asked: Asked) -> Answered:
        requests: list[Request] = []
        answered: Answered = []
        media: dict[str, dict[str, Any]] = {}
        for key, question, reading in reader.read_ahead(asked):
            try:
                frames = reading.result()
            except (OSError, ValueError) as error:
                answered.append((Completion(key, error=str(error)), {}))
            else:
                requests.append(Request(key, question, frames))
                media[key] = media_of(frames)
        for completion in engine.generate(iter(requests), sampling):
            answered.append((completion, media[completion.key]))
        return answered

    return answer


def media_of(frames: Clips) -> dict[str, Any]:
    """Return how frames were made, without the path: the question names it.

    With several media it is about the first one, and "more" lists the others.
    """
    first, *more = [clip.info() for clip in clips_of(frames)] or [{}]
    for info in (first, *more):
        info.pop("path", None)
    return first | ({"more": more} if more else {})
