"""A worker in a process of its own: it may crash, hang or run out of memory, its parent lives on.

The child is `python -c …`, as the decoders' is: it never imports the user's main module, so it
works in notebooks, tests and scripts without a guard. Both ends speak pickles over a pipe that only
they have.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from p2r.errors import EngineError

START_LIMIT = 1800.0  # seconds; a large model is loaded in it
_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from p2r.engines.apart import main; main(int(sys.argv[2]))"
)


@dataclass(frozen=True)
class Death:
    """A process that ended, or was ended, while it worked; or what it works with: a worker says so
    by an error with a true attribute `died`.
    """

    reason: str


class Apart:
    """A child process that answers messages; started when first asked, and again after a death.

    `make`: a picklable function without arguments that returns the child's worker, a function of
    one message. `limit`: seconds for one answer.
    """

    def __init__(self, make: Callable[[], Callable[[Any], Any]], limit: float | None) -> None:
        self._make, self._limit = make, limit
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def ask(self, message: Any) -> Any | Death:
        """The worker's answer, or how the child died of it; raises `EngineError`."""
        if self._child is None:
            self._start()
        with contextlib.suppress(OSError):  # it is dead: said below
            self._connection.send(message)
        return self._receive(self._limit)

    def close(self) -> None:
        """End the child; closing twice is harmless."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._connection.close()
            self._child = self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        self._child = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path), str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else None,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        self._connection.send(self._make)
        started = self._receive(START_LIMIT)
        if isinstance(started, Death):
            raise EngineError(f"the process for single samples did not start: {started.reason}")

    def _receive(self, limit: float | None) -> Any | Death:
        try:
            if not self._connection.poll(limit):
                self.close()
                return Death(f"no answer within {limit:g} s, also alone")
            kind, answer = self._connection.recv()
        except (EOFError, OSError):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(5)
            code = self._child.poll()
            self.close()
            how = signal.strsignal(-code) if code and code < 0 else f"exit status {code}"
            return Death(f"the process that works on it dies, also alone: {how}")
        if kind == "error":
            self.close()
            raise EngineError(answer)
        if kind == "died":
            self.close()
            return Death(f"the engine that works on it dies, also alone: {answer}")
        return answer


def _has_descriptor(stream: Any) -> bool:
    try:
        return stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False


def main(descriptor: int) -> None:
    """The child: answers until its parent hangs up, or is gone."""
    connection = Connection(descriptor)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with contextlib.suppress(OSError):  # where memory runs out, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        worker = connection.recv()()
        connection.send(("ready", None))
        while True:
            connection.send(("answer", worker(connection.recv())))
    except EOFError:
        return
    except Exception as error:  # said by the parent, in one line
        kind = "died" if getattr(error, "died", False) else "error"
        with contextlib.suppress(OSError):
            connection.send((kind, f"{type(error).__name__}: {' '.join(str(error).split())}"))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
