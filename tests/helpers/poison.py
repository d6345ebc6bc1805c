"""An engine that some samples kill, hang or fail: for tests of what becomes of the others."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator

from p2r.engines import Completion, Request, Sampling
from p2r.errors import EngineDied


class PoisonEngine:
    """Answers a window at a time; a problem that says "kill", "hang" or "die" does that, the last
    to the engine alone, as where it has a process of its own; "crowd" fails unless it is alone.
    """

    name = "poison"
    identity = {"engine": "poison"}  # noqa: RUF012

    def __init__(self, window: int = 4) -> None:
        self.window = window
        self.asked: list[str] = []

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        requests = iter(requests)
        while window := [r for _, r in zip(range(self.window), requests, strict=False)]:
            for request in window:
                self.asked.append(request.key)
                if "kill" in request.question.problem:
                    time.sleep(1)  # so that the next one waits at the same worker by then
                    os.kill(os.getpid(), signal.SIGKILL)
                if "hang" in request.question.problem:
                    time.sleep(600)
                if "die" in request.question.problem:
                    raise EngineDied("out of memory")
                if "crowd" in request.question.problem and len(window) > 1:
                    yield Completion(request.key, error="out of memory")
                    continue
                yield Completion(request.key, f"answer to {request.key}", [1, 2])

    def stream(self, request: Request, sampling: Sampling) -> Iterator[str]:
        yield next(self.generate([request], sampling)).text
