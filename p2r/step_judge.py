"""The judge inside the training loop: asked beside the log-probs, within a time limit, once about
each observation; and when to stop because it is silent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from textwrap import shorten

from .judges import NO_OBSERVATION, Judge, judge_distinct
from .records import Case, Question, Verdict
from .template import parse
from .training import TrainingError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """The verdicts of some rollouts (None: there is no judge), how often the judge was asked about
    an observation, and the seconds that it took.
    """

    verdicts: list[Verdict | None]
    calls: int = 0
    seconds: float = 0.0


class StepJudge:
    """Asks a judge in a thread of its own: `ask` begins, `answer` waits for the verdicts.

    `timeout`: the seconds after `ask` in which the verdicts must be there; those that are not are
    unknown, and so is a verdict after an `OSError` (no connection, say) of the judge. `retries`:
    how often an observation is asked about again whose verdict is unknown and cost nothing. Other
    errors of the judge are raised by `answer`.
    """

    PAUSE = 0.5  # seconds before the first retry after an error; doubled each time

    def __init__(self, judge: Judge | None, timeout: float, retries: int) -> None:
        self.judge = judge
        self.timeout = timeout
        self.retries = retries
        self._judges = threading.Lock()  # a judge that hangs is not asked a second time meanwhile
        self._asked: Future[Judged]
        self._observations: list[str | None] = []
        self._deadline = 0.0

    def ask(self, questions: Sequence[Question], texts: Sequence[str]) -> None:
        """Begin with the observations of some responses."""
        self._asked, self._deadline = Future(), time.monotonic() + self.timeout
        self._observations = [parse(text).observation for text in texts]
        arguments = (self._asked, questions, self._observations, self._deadline)
        # A daemon: what hangs does not keep the process from ending.
        threading.Thread(target=self._work, args=arguments, name="judge", daemon=True).start()

    def answer(self) -> Judged:
        """The verdicts on what was asked last."""
        try:
            return self._asked.result(max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            late = _unknown(f"no verdict within {self.timeout:g} s")
            verdicts = [late if seen else NO_OBSERVATION for seen in self._observations]
            return Judged(verdicts, seconds=self.timeout)

    def _work(
        self,
        asked: Future[Judged],
        questions: Sequence[Question],
        observations: Sequence[str | None],
        deadline: float,
    ) -> None:
        try:
            with self._judges:
                if time.monotonic() < deadline:
                    asked.set_result(self._judge(questions, observations, deadline))
        except BaseException as error:  # it is raised where the verdicts are waited for
            asked.set_exception(error)

    def _judge(
        self, questions: Sequence[Question], observations: Sequence[str | None], deadline: float
    ) -> Judged:
        """A verdict for every response; equal observations on one question are judged once.

        An observation that cannot be read, missing or cut off, is not sufficient, and nobody is
        asked. No retry begins after `deadline` (s, `time.monotonic`).
        """
        if self.judge is None:
            return Judged([None] * len(observations))
        start, calls = time.perf_counter(), 0

        def ask(questions: list[Question], observations: list[str]) -> list[Verdict]:
            nonlocal calls
            verdicts = [_UNASKED] * len(questions)
            for attempt in range(self.retries + 1):
                rows = [row for row, verdict in enumerate(verdicts) if _failed(verdict)]
                if not rows or (attempt and time.monotonic() >= deadline):
                    break
                asked = [questions[row] for row in rows], [observations[row] for row in rows]
                try:
                    found = self.judge.judge(*asked)
                except OSError as error:
                    found = [_unknown(f"{type(error).__name__}: {error}")] * len(rows)
                    pause = self.PAUSE * 2**attempt if attempt < self.retries else 0.0
                    time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
                calls += sum(not verdict.usage.get("reused") for verdict in found)
                for row, verdict in zip(rows, found, strict=True):
                    verdicts[row] = verdict
            return verdicts

        verdicts: list[Verdict | None] = [NO_OBSERVATION] * len(observations)
        readable = [row for row, observation in enumerate(observations) if observation]
        judged = judge_distinct(
            ask, [questions[row] for row in readable], [observations[row] for row in readable]
        )
        for row, verdict in zip(readable, judged, strict=True):
            verdicts[row] = verdict
        return Judged(verdicts, calls, time.perf_counter() - start)


def _unknown(reason: str) -> Verdict:
    return Verdict(sufficient=None, rationale=reason)


_UNASKED = _unknown("not asked")


def _failed(verdict: Verdict) -> bool:
    """Without an answer and for free: the judge was not reached, or could not say."""
    return verdict.sufficient is None and not verdict.usage


def judged_verdicts(cases: Sequence[Case]) -> list[Verdict]:
    """The verdicts on observations that the judge was shown; one that cannot be read is not."""
    return [case.verdict for case in cases if case.verdict and case.trace.observation]


class JudgeWatch:
    """Lets a run go on without some verdicts, and stops it when the judge stays silent.

    A step's share of observations without a verdict is averaged over the last `STEPS` steps; steps
    that are not there yet count as answered, so that a judge that is down at the start is given as
    long to come back as one that goes down later.
    """

    STEPS = 5

    def __init__(self, max_unknown: float) -> None:
        self.max_unknown = max_unknown
        self._shares: deque[float] = deque([0.0] * self.STEPS, maxlen=self.STEPS)

    def check(self, cases: Sequence[Case]) -> None:
        """Take in a step's rollouts; warns of missing verdicts, raises `TrainingError` when more
        than `max_unknown` are missing.
        """
        judged = judged_verdicts(cases)
        silent = [verdict for verdict in judged if verdict.sufficient is None]
        if judged:
            self._shares.append(len(silent) / len(judged))
        if not silent:
            return
        reason = shorten(silent[-1].rationale or "none given", 200)
        log.warning("no verdict on %d of %d observations: %s", len(silent), len(judged), reason)
        share = sum(self._shares) / self.STEPS
        if share > self.max_unknown:
            raise TrainingError(
                f"the judge gave no verdict on {len(silent)} of {len(judged)} observations of this "
                f"step, and over the last {self.STEPS} steps on a larger share than "
                f"rl.max_unknown={self.max_unknown:g}; its last reason: {reason}. Mend the judge "
                "and start again (training goes on from its last checkpoint), or begin a run with "
                "another rl.judge or without the perception reward (rl.rewards, rl.credit=outcome)"
            )
