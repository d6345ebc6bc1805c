"""Worker processes that decode: a decoder that hangs or crashes costs one file, not the run.

A worker is `python -c "… video_worker.main()"`, started when first needed and kept: it never
imports the user's main module, so it works in notebooks, tests and scripts without a guard. Both
ends speak length-prefixed messages over a socket pair: JSON headers, then raw pixels. What decoders
print goes to a file and is used in reasons. `P2R_VIDEO_WORKERS` bounds the number of workers; one
thread uses one worker.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np

WORKERS = int(os.environ.get("P2R_VIDEO_WORKERS") or min(4, os.cpu_count() or 1))
START_LIMIT = 120.0  # seconds; importing the decoders on a busy machine takes a while
MAX_REASON = 300

# The worker finds this package where the parent did, after everything of its own.
_START = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from p2r.video.worker import main; main(int(sys.argv[2]))"
)


class DecodeFailure(Exception):
    """Why a file could not be decoded, in one line; `lost`: the stage that lost a worker."""

    def __init__(self, reason: str, lost: str = ""):
        super().__init__(" ".join(reason.split())[:MAX_REASON])
        self.lost = lost


class Worker:
    """One decoding process. Not for use by two threads at once."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the worker)
        package_root = str(Path(__file__).resolve().parents[2])
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, package_root, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        try:
            self._receive(time.monotonic() + START_LIMIT, START_LIMIT, "start")
        except BaseException:
            self.kill()
            raise

    def ask(self, request: dict[str, Any], timeout: float) -> tuple[dict[str, Any], np.ndarray]:
        """The answer's header and its pixels; after a failure with `lost` it must be killed."""
        self.log.seek(0)
        self.log.truncate()
        deadline = time.monotonic() + timeout
        stage = "opening"
        try:
            self.connection.send_bytes(json.dumps(request | {"timeout": timeout}).encode())
        except OSError:
            raise self._died(stage) from None
        while "stage" in (answer := self._receive(deadline, timeout, stage)):
            stage = answer["stage"]
        if "reason" in answer:
            raise DecodeFailure(answer["reason"])
        pixels = np.empty(answer.pop("shape"), np.uint8)
        try:
            self.connection.recv_bytes_into(memoryview(pixels).cast("B"))
        except (EOFError, OSError):
            raise self._died(stage) from None
        return answer, pixels

    def _receive(self, deadline: float, timeout: float, stage: str) -> dict[str, Any]:
        try:
            if not self.connection.poll(max(0.0, deadline - time.monotonic())):
                raise DecodeFailure(f"no result within {timeout:g} s ({stage})", lost=stage)
            return json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            raise self._died(stage) from None

    def _died(self, stage: str) -> DecodeFailure:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        code = self.process.returncode
        how = signal.strsignal(-code) if code and code < 0 else f"exit status {code}"
        self.log.seek(0)
        said = self.log.read()[-4000:].decode(errors="replace").strip().splitlines()
        return DecodeFailure(
            f"the decoder crashed ({stage}): {how}{'; ' + said[-1] if said else ''}", lost=stage
        )

    def kill(self) -> None:
        self.connection.close()
        self.process.kill()
        # A process that is stuck in the kernel is left behind.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.log.close()


class WorkerPool:
    """At most `size` workers; a call takes an idle one, starts one, or waits for one."""

    def __init__(self, size: int = WORKERS) -> None:
        self._slots = threading.BoundedSemaphore(size)
        self._idle: list[Worker] = []

    def ask(self, request: dict[str, Any], timeout: float) -> tuple[dict[str, Any], np.ndarray]:
        with self._slots:
            worker = self._take()
            try:
                answer = worker.ask(request, timeout)
            except DecodeFailure as failure:
                if failure.lost:
                    worker.kill()
                else:
                    self._idle.append(worker)
                raise
            except BaseException:
                worker.kill()  # an interrupt leaves an answer unread: this worker is out of step
                raise
            self._idle.append(worker)
            return answer

    def _take(self) -> Worker:
        while True:
            try:
                worker = self._idle.pop()
            except IndexError:
                return Worker()
            if worker.process.poll() is None:
                return worker
            worker.kill()  # it ended while idle; that is no file's fault

    def close(self) -> None:
        while self._idle:
            self._idle.pop().kill()

    def forget(self) -> None:
        """Let go of workers that belong to the parent of this forked process."""
        while self._idle:
            self._idle.pop().connection.close()


_pool = WorkerPool()


def decode(request: dict[str, Any], timeout: float) -> tuple[dict[str, Any], np.ndarray]:
    """Decode in a worker; where decord itself hangs or crashes, once more with PyAV alone."""
    try:
        return _pool.ask(request, timeout)
    except DecodeFailure as failure:
        if failure.lost != "decord":
            raise
    return _pool.ask(request | {"decord": False}, timeout)


def close_workers() -> None:
    """End all idle workers; the next call starts one again."""
    _pool.close()


def _after_fork() -> None:
    global _pool
    _pool.forget()
    _pool = WorkerPool()


atexit.register(close_workers)
os.register_at_fork(after_in_child=_after_fork)
