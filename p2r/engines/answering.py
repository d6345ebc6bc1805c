"""One session of answering: requests out to an engine, outcomes into the journals.

Suspects of an earlier death go first, in a process apart; then all others through the engine; what
failed in a way that may have been the crowd's fault is tried once more alone. Then every sample
has exactly one outcome.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from p2r.engines import Completion, Engine, Request, Sampling
from p2r.engines.apart import Apart, Death
from p2r.engines.inflight import Inflight, Watchdog, try_apart
from p2r.errors import EngineDied
from p2r.files.journal import Journal
from p2r.records import Question
from p2r.video import FrameCache, Frames
from p2r.video.process import WORKERS

log = logging.getLogger(__name__)

READ_AHEAD = 32  # clips
Answered = list[tuple[Completion, dict[str, Any]]]
# Spreads messages over the workers that a function makes, so many at a time:
# `p2r.engines.ray_data`.
Spread = Callable[[Callable[[], Any], Sequence[Any], int], Iterator[Any]]


class Answering:
    """Answers `asked` (key to question) and writes each outcome to one of the two journals."""

    def __init__(
        self,
        asked: Mapping[str, Question],
        engine: Engine,
        sampling: Sampling,
        frames: Mapping[str, Any],
        data_root: Path,
        journal: Journal,
        errors: Journal,
        outcome: Callable[[str, Completion, dict[str, Any]], dict[str, Any]],
        title: str,
    ) -> None:
        self.asked, self.engine, self.sampling = asked, engine, sampling
        self.frames, self.data_root = frames, data_root
        self.journal, self.errors, self.outcome = journal, errors, outcome
        self.title = title

    def run(
        self,
        intents: Path,
        make_engine: Callable[[], Engine] | None,
        patience: float | None,
        group: int,
        spread: Spread | None = None,
    ) -> None:
        """Answer all; killed at any moment, the next call goes on. `spread`: by workers elsewhere,
        each with an engine that `make_engine` makes.
        """
        with ExitStack() as stack:
            self.inflight = stack.enter_context(Inflight(intents, lambda k: k not in self.asked))
            self.bar = stack.enter_context(
                tqdm(total=len(self.asked), desc=self.title, unit="trace")
            )
            self._try_suspects(make_engine, patience, group)
            if spread is not None and make_engine is not None:
                self._answer_elsewhere(make_engine, group, spread)
                return
            watchdog = stack.enter_context(Watchdog(patience, self.title))
            again: list[str] = []
            self._answer([key for key in self.asked if not self._done(key)], watchdog, again)
            for key in list(again):
                self._answer([key], watchdog, None)

    def _done(self, key: str) -> bool:
        return key in self.journal or key in self.errors

    def _try_suspects(
        self, make_engine: Callable[[], Engine] | None, patience: float | None, group: int
    ) -> None:
        suspects = self.inflight.suspects
        if not suspects:
            return
        log.warning("%d were in flight when the last process died: tried apart", len(suspects))
        with Apart(self._make_answerer(make_engine), patience) as child:

            def ask(keys: list[str]) -> Answered | Death:
                if make_engine is not None:
                    return child.ask([(key, self.asked[key]) for key in keys])
                answer = answer_with(self.engine, self.sampling, self.frames, self.data_root)
                try:
                    return answer([(key, self.asked[key]) for key in keys])
                except EngineDied as error:
                    return Death(f"the engine that works on it dies, also alone: {error}")

            size = group if make_engine is not None else 1
            for keys, answer in try_apart(suspects, self.inflight, ask, size):
                if isinstance(answer, Death):
                    self._fail(keys[0], answer.reason)
                    continue
                for completion, media in answer:
                    if completion.error is None or len(keys) == 1:
                        self._end(completion, media)  # others go on with all that are no suspects

    def _make_answerer(
        self, make_engine: Callable[[], Engine] | None
    ) -> Callable[[], Callable[[list[tuple[str, Question]]], Answered]]:
        return partial(
            make_answerer, make_engine, self.sampling, dict(self.frames), self.data_root.resolve()
        )

    def _answer_elsewhere(
        self, make_engine: Callable[[], Engine], group: int, spread: Spread
    ) -> None:
        """Together, then alone what came back unanswered; what dies alone too is set aside."""
        for size in (group, 1):
            left = [(key, question) for key, question in self.asked.items() if not self._done(key)]
            for completion, media in spread(self._make_answerer(make_engine), left, size):
                if completion.error is None or size == 1:
                    self._end(completion, media)
        for key in self.asked:
            if not self._done(key):
                self._fail(key, "the worker that works on it dies, also alone")

    def _answer(self, keys: Sequence[str], watchdog: Watchdog, again: list[str] | None) -> None:
        """Through the engine; what may have failed for want of room goes to `again`, if given."""
        media: dict[str, dict[str, Any]] = {}

        def requests() -> Iterator[Request]:
            read = partial(_read, self.frames, self.data_root)
            questions = [self.asked[key] for key in keys]
            for key, question, reading in zip(
                keys, questions, _read_ahead(read, questions), strict=True
            ):
                try:
                    shown = reading.result()
                except (OSError, ValueError) as error:
                    if again is not None and getattr(error, "lost", False):
                        again.append(key)
                    else:
                        self._fail(key, str(error))
                    continue
                media[key] = media_of(shown)
                self.inflight.begin([key])
                watchdog.alive()
                yield Request(key, question, shown)

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
        self.journal.append(key, self.outcome(key, completion, media))
        self._settle(key)

    def _fail(self, key: str, reason: str) -> None:
        question = self.asked[key]
        failure = {
            "question_id": question.id,
            "problem_type": question.problem_type,
            "path": question.path,
            "reason": " ".join(reason.split()),
        }
        self.errors.append(key, failure)
        self._settle(key)

    def _settle(self, key: str) -> None:
        self.inflight.settle(key)
        self.bar.update()


# ---- single samples, also in another process


def make_answerer(
    make_engine: Callable[[], Engine], sampling: Sampling, frames: dict[str, Any], data_root: Path
) -> Callable[[list[tuple[str, Question]]], Answered]:
    """What the process apart works with; called in it."""
    return answer_with(make_engine(), sampling, frames, data_root)


def answer_with(
    engine: Engine, sampling: Sampling, frames: Mapping[str, Any], data_root: Path
) -> Callable[[list[tuple[str, Question]]], Answered]:
    """A function that answers questions, given with their keys: one completion each, with its
    media.
    """

    def answer(asked: list[tuple[str, Question]]) -> Answered:
        requests, answered, media = [], [], {}
        questions = [question for _, question in asked]
        readings = _read_ahead(partial(_read, frames, data_root), questions)
        for (key, question), reading in zip(asked, readings, strict=True):
            try:
                shown = reading.result()
            except (OSError, ValueError) as error:
                answered.append((Completion(key, error=str(error)), {}))
            else:
                requests.append(Request(key, question, shown))
                media[key] = media_of(shown)
        for completion in engine.generate(iter(requests), sampling):
            answered.append((completion, media[completion.key]))
        return answered

    return answer


def _read(frames: Mapping[str, Any], root: Path, question: Question) -> Frames | None:
    if not question.path:
        return None
    from p2r.data import read_frames

    return read_frames(question, root=root, cache=FrameCache(None), **frames)


def _read_ahead(
    read: Callable[[Question], Frames | None], questions: Sequence[Question]
) -> Iterator[Future[Frames | None]]:
    """The frames of each question in order; the next ones are decoded while a model works."""
    pool = ThreadPoolExecutor(WORKERS)
    waiting: deque[Future[Frames | None]] = deque()
    try:
        for question in questions:
            waiting.append(pool.submit(read, question))
            if len(waiting) > READ_AHEAD:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def media_of(frames: Frames | None) -> dict[str, Any]:
    """How the frames were made; the file is named by the question, relative to the data root."""
    info = {} if frames is None else frames.info()
    info.pop("path", None)
    return info
