"""Judges that take time, as a judge behind a server does."""

from __future__ import annotations

import asyncio
import threading

from p2r.judges import BaseJudge
from p2r.records import Verdict


class WaitingJudge(BaseJudge):
    """Says "sufficient" for "two", after some time. Notes when it is asked about what."""

    name = "waiting"

    def __init__(self, seconds=0.0, failures=(), limit=None):
        self.seconds, self.limit = seconds, limit
        self.failures = list(failures)  # errors or verdicts of the first calls
        self.asked, self.begun = [], threading.Event()

    async def ask(self, question, observation):
        self.asked.append(observation)
        self.begun.set()
        await asyncio.sleep(self.seconds)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        return Verdict(sufficient="two" in observation, usage={"tokens": 1}, cost=0.01)


class LateJudge(WaitingJudge):
    """Is asked after sampling."""

    waits = False
