"""Crash recovery: samples that were in progress when a run crashed are retried in a subprocess.

Before an engine gets a request, its key is written to `NAME.inflight.jsonl`. A normal end, a user's
error or Ctrl-C removes the file. After a crash, the keys in the file that have no outcome are
*suspects*. They are retried before all other samples: in groups, then one by one if a group
crashes or hangs. If a sample crashes or hangs alone, it is skipped and the reason is recorded.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from p2r.errors import EngineError
from p2r.files.own_process import is_own_process
from p2r.workers import Answer, Worker, WorkerFailed

log = logging.getLogger(__name__)

# A crash that ends the whole run (a container out of memory, a power cut) can happen by chance. A
# sample is skipped only if it was alone in progress this many times.
MAX_CRASHES_ALONE = 3
HANG_EXIT = 75  # EX_TEMPFAIL: start the same command again
START_LIMIT = 1800.0  # seconds; a large model is loaded in this time
_WHAT = {"late": "", "crash": "it crashed: ", "died": "the engine died: "}


class InProgress:
    """The samples of one stage that an engine is working on now, kept in a file.

    The file is not synced to disk: a crash of the OS process loses nothing, and a crash of the
    machine makes no sample a suspect. Use it in a `with` block. Only a crash (`may_be_poison`)
    leaves new suspects in the file.
    """

    def __init__(self, path: str | Path, done: Callable[[str], bool]) -> None:
        self.path = Path(path)
        begun, self.crashes_alone = _read_file(self.path)
        self._suspects = {key: None for key in begun if not done(key)}

    @property
    def suspects(self) -> list[str]:
        """The keys that an earlier run began and did not finish, in order."""
        return list(self._suspects)

    def begin(self, keys: Sequence[str], retry: bool = False) -> None:
        """Note that work on these keys begins; `retry`: in the subprocess for suspects."""
        line = {"begin": list(keys)} | ({"alone": True} if retry and len(keys) == 1 else {})
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line))  # begins a new line after one that was cut off

    def finish(self, key: str) -> None:
        """Note that a key has an outcome, so it is not a suspect any more."""
        self._suspects.pop(key, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and may_be_poison(error):
            return
        self.path.unlink(missing_ok=True)
        if self._suspects:
            self.begin(self.suspects)


def may_be_poison(error: BaseException) -> bool:
    """Return whether a sample in progress may have caused an error.

    True for a dead engine (attribute `died`), memory that ran out or a fault in a library. False
    for errors that users can fix (ValueError, OSError).
    """
    if isinstance(error, ValueError | OSError):
        return getattr(error, "died", False)
    return isinstance(error, Exception)


def _read_file(path: Path) -> tuple[list[str], Counter[str]]:
    """Return the keys begun, and how often each was alone in progress when the run crashed."""
    begun: dict[str, None] = {}
    alone: Counter[str] = Counter()
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in lines:
        try:
            entry = json.loads(line)
            keys = [str(key) for key in entry["begin"]]
        except (ValueError, TypeError, KeyError):
            continue  # the crash cut this line off
        begun |= dict.fromkeys(keys)
        if entry.get("alone"):
            alone.update(keys)
    return list(begun), alone


# ---- retries


@dataclass(frozen=True)
class Crash:
    """Why a retry gave no answer: its subprocess or its engine crashed or hung."""

    reason: str


def retry_suspects(
    keys: Sequence[str],
    in_progress: InProgress,
    ask: Callable[[list[str]], Any | Crash],
    group: int,
) -> Iterator[tuple[list[str], Any | Crash]]:
    """Ask about suspects in groups; ask one by one about a group that crashed.

    Yields keys with the answer of `ask`, or one key with its `Crash`.
    """
    crashes = in_progress.crashes_alone
    again = [key for key in keys if not crashes[key]]
    groups = [again[start : start + group] for start in range(0, len(again), group)]
    groups += [[key] for key in keys if crashes[key]]  # the most suspicious ones last
    for some in groups:
        if crashes[some[0]] >= MAX_CRASHES_ALONE:
            yield some, Crash(f"the run crashed {MAX_CRASHES_ALONE} times on this sample alone")
            continue
        in_progress.begin(some, retry=True)
        answer = ask(some)
        if not isinstance(answer, Crash) or len(some) == 1:
            yield some, answer
            continue
        log.warning("a group of %d crashed; retrying one by one: %s", len(some), answer.reason)
        for key in some:
            in_progress.begin([key], retry=True)
            yield [key], ask([key])


class RetryWorker:
    """A subprocess that retries suspects; it is started again after a crash.

    `make`: a picklable function without arguments that returns the function that answers.
    `limit`: seconds for one answer.
    """

    def __init__(self, make: Callable[[], Callable[[Any], Any]], limit: float | None) -> None:
        self._make, self._limit = make, limit
        self._worker: Worker | None = None

    def ask(self, message: Any) -> Any | Crash:
        """Return the answer, or the crash. Raises `EngineError`."""
        try:
            if self._worker is None or not self._worker.alive:
                self._worker = Worker("p2r.engines.crash_recovery:start_retries")
                self._worker.ask({}, pickle.dumps(self._make), START_LIMIT)
        except WorkerFailed as failed:
            raise EngineError(f"the subprocess for retries did not start: {failed}") from None
        try:
            return pickle.loads(self._worker.ask({}, pickle.dumps(message), self._limit)[1].data)
        except WorkerFailed as failed:
            if failed.kind == "error":
                raise EngineError(str(failed)) from None
            return Crash(f"retried alone in a subprocess: {_WHAT[failed.kind]}{failed}")

    def close(self) -> None:
        """End the subprocess; closing it twice does no harm."""
        if self._worker is not None:
            self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def start_retries() -> Answer:
    """Return the answering function of a `RetryWorker`; its first message is `make`."""
    work: Callable[[Any], Any] | None = None

    def answer(header: Any, body: Any, _: Any) -> tuple[dict[str, Any], bytes]:
        nonlocal work
        message = pickle.loads(body)
        if work is None:
            work = message()
            return {}, b""
        return {}, pickle.dumps(work(message))

    return answer


class Watchdog:
    """Ends a command of p2r if `alive` is not called for `limit` seconds (None: never).

    A hang inside a library cannot be interrupted, but an OS process can be ended. The next start
    retries the samples that were in progress. An OS process that is not p2r's own, such as a
    notebook kernel, is never ended: there the hang is logged.
    """

    def __init__(self, limit: float | None, stage: str) -> None:
        self.limit, self.stage = limit, stage
        self._last = time.monotonic()
        self._stop = threading.Event()

    def alive(self) -> None:
        """Note that something happened."""
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        if self.limit is not None:
            self.alive()
            threading.Thread(target=self._watch, args=(self.limit,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()

    def _watch(self, limit: float) -> None:
        while not self._stop.wait(min(1.0, limit / 4)):
            if time.monotonic() - self._last > limit:
                if not is_own_process():
                    log.error(
                        "%s: no answer for %g s: the engine may hang. To stop, interrupt or "
                        "restart this program; the same call resumes",
                        self.stage,
                        limit,
                    )
                    self.alive()  # say it again after the same time
                    continue
                message = (
                    f"error: {self.stage}: no answer for {limit:g} s, so the run was stopped. "
                    "Start the same command again: it resumes, and retries in a subprocess the "
                    "samples that were in progress.\n"
                )
                os.write(2, message.encode())
                os._exit(HANG_EXIT)
