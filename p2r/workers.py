"""Subprocess workers: code that may crash or hang runs in a child that answers messages.

A worker is started with `python -c`, so it never imports the user's main module and works in
notebooks, tests and scripts without a guard. A message is a JSON header, followed by raw bytes if
the message has a body. Bodies are never unpickled here, so a worker that reads untrusted files
cannot run code in its parent.

In the worker, a *target* function (`"module:function"`) is called once. It returns the function
that answers: `answer(header, body, say)` returns the header and body of the answer, and
`say(header)` reports progress before that.

A worker ends when its parent ends, and a forked copy of the parent never uses it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np

Header = dict[str, Any]
Body = Any  # bytes, or anything that has a contiguous buffer
Say = Callable[[Header], None]
Answer = Callable[[Header, Body, Say], tuple[Header, Body]]

START_LIMIT = 120.0  # seconds; imports take a while on a busy machine
SPARE = 10.0  # seconds after its time limit when a worker that still hangs kills itself
_START = (
    "import sys, json; paths = json.loads(sys.argv[1]); "
    "sys.path[:] = [p for p in sys.path if p not in paths] + paths; "
    "from p2r.workers import main; main(*sys.argv[2:])"
)


class WorkerFailed(Exception):
    """Why a worker gave no answer, in one line; the worker has ended.

    `kind` is "crash", "late" (it was killed at the time limit), "error" (the answering function
    raised an exception) or "died" (the same, with a true attribute `died` on the exception).
    """

    def __init__(self, kind: Literal["crash", "late", "error", "died"], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Worker:
    """One subprocess that answers messages, for one thread at a time.

    If `ask` raises anything, the worker is closed. `keep_output`: what the worker prints is kept
    in a file and its last line is added to the reason of a crash. Without it, the output goes to
    the parent's standard error. Raises `WorkerFailed` if the worker does not start.
    """

    def __init__(self, target: str, *, keep_output: bool = False) -> None:
        self._owner = os.getpid()
        self._connection, theirs = Pipe()
        self._log = tempfile.TemporaryFile() if keep_output else None  # noqa: SIM115
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", _START, json.dumps(sys.path)),
                *(str(theirs.fileno()), str(self._owner), target),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log or _standard_error(),
            stderr=self._log,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        with self._closed_on_error():
            self._receive(time.monotonic() + START_LIMIT, START_LIMIT)

    @property
    def alive(self) -> bool:
        """Whether this OS process can ask the worker."""
        return (
            self._owner == os.getpid()
            and not self._connection.closed
            and self.process.poll() is None
        )

    def ask(
        self,
        header: Header,
        body: Body = b"",
        limit: float | None = None,
        on_progress: Say = lambda header: None,
    ) -> tuple[Header, np.ndarray]:
        """Return the header and the body (uint8) of the answer.

        `limit` is in seconds. Raises `WorkerFailed`.
        """
        with self._closed_on_error():  # also after Ctrl-C: an unread answer is left behind
            if self._log is not None:
                self._log.seek(0)
                self._log.truncate()
            deadline = None if limit is None else time.monotonic() + limit
            try:
                _send(self._connection, header | {"limit": limit}, body)
            except OSError:
                raise self._crash() from None
            while "progress" in (answer := self._receive(deadline, limit)):
                on_progress(answer["progress"])
            if "error" in answer:
                raise WorkerFailed("died" if answer["died"] else "error", answer["error"])
            try:
                return answer, _receive_body(self._connection, answer)
            except (EOFError, OSError):
                raise self._crash() from None

    def close(self) -> None:
        """Kill the worker; closing it twice does no harm."""
        self._connection.close()
        if self._owner == os.getpid():
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: leave it
                self.process.wait(5)
        if self._log is not None:
            self._log.close()

    @contextlib.contextmanager
    def _closed_on_error(self) -> Any:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _receive(self, deadline: float | None, limit: float | None) -> Header:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            if not self._connection.poll(left):
                raise WorkerFailed("late", f"no answer within {limit:g} s")
            return json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise self._crash() from None

    def _crash(self) -> WorkerFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        code = self.process.poll()
        reason = (signal.strsignal(-code) if code and code < 0 else None) or f"exit status {code}"
        if self._log is not None:
            self._log.seek(0)
            lines = self._log.read()[-4000:].decode(errors="replace").strip().splitlines()
            reason = "; ".join([reason, *lines[-1:]])
        return WorkerFailed("crash", reason)


class WorkerPool:
    """At most `size` workers for one target; each thread that asks uses one worker.

    A call takes an idle worker, starts one, or waits for one. Workers stay for later calls.
    """

    def __init__(self, target: str, size: int) -> None:
        self.target, self.size = target, size
        self._reset()

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._slots = threading.BoundedSemaphore(self.size)
        self.idle: list[Worker] = []

    def ask(
        self, header: Header, limit: float, on_progress: Say = lambda header: None
    ) -> tuple[Header, np.ndarray]:
        """Ask one of the workers, as `Worker.ask` does."""
        if self._owner != os.getpid():  # a fork: the workers belong to the parent
            self.close()
            self._reset()
        with self._slots:
            worker = self._take()
            answer = worker.ask(header, limit=limit, on_progress=on_progress)
            self.idle.append(worker)
            return answer

    def close(self) -> None:
        """End all idle workers; the next call starts one again."""
        while worker := self._pop():
            worker.close()

    def _take(self) -> Worker:
        while worker := self._pop():
            if worker.alive:
                return worker
            worker.close()  # it ended while it was idle: no message is the cause
        return Worker(self.target, keep_output=True)

    def _pop(self) -> Worker | None:
        try:
            return self.idle.pop()
        except IndexError:
            return None


# ---- in the worker


def main(descriptor: str, parent: str, target: str) -> None:
    """Answer messages until the parent closes the connection or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    with contextlib.suppress(OSError):  # if memory runs out, the kernel kills this one first
        Path("/proc/self/oom_score_adj").write_text("1000")
    connection = Connection(int(descriptor))
    module, _, name = target.partition(":")
    answer: Answer = getattr(importlib.import_module(module), name)()
    _send(connection, {})
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            header = json.loads(connection.recv_bytes())
            body = _receive_body(connection, header)
            # A library that hangs may block the thread that watches the parent; this alarm not.
            limit = header.pop("limit")
            signal.setitimer(signal.ITIMER_REAL, 0 if limit is None else limit + SPARE)
            try:
                found = answer(header, body, lambda part: _send(connection, {"progress": part}))
            except Exception as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
                died = bool(getattr(error, "died", False))
                _send(connection, {"error": reason, "died": died})
                return
            _send(connection, *found)
            signal.setitimer(signal.ITIMER_REAL, 0)


def _send(connection: Connection, header: Header, body: Body = b"") -> None:
    size = memoryview(body).nbytes
    connection.send_bytes(json.dumps(header | {"size": size}).encode())
    if size:
        connection.send_bytes(memoryview(body).cast("B"))


def _receive_body(connection: Connection, header: Header) -> np.ndarray:
    body = np.empty(header.pop("size"), np.uint8)
    if body.size:
        connection.recv_bytes_into(body.data)
    return body


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _standard_error() -> int | None:
    try:
        return sys.stderr.fileno() if sys.stderr.fileno() >= 0 else None
    except (AttributeError, OSError, ValueError):
        return None
