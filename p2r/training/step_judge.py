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

from accelerate.utils import gather_object

from p2r.errors import TrainingError
from p2r.judges import NO_OBSERVATION, Judge, judge_key, reused
from p2r.records import Case, Question, Verdict
from p2r.template import parse
from p2r.training.common import training_processes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """The verdicts of some rollouts (None: there is no judge), how often this process asked the
    judge about an observation, and the seconds that it took.
    """

    verdicts: list[Verdict | None]
    calls: int = 0
    seconds: float = 0.0


class StepJudge:
    """Asks a judge in a thread of its own: `ask` begins, `answer` waits for the verdicts.

    Equal observations on one question are judged once, on whichever processes their rollouts lie;
    all processes call `ask` and `answer` together. `timeout`: the seconds after `ask` in which the
    verdicts must be there; those that are not are unknown, and so is a verdict after an `OSError`
    (no connection, say) of the judge. `retries`: how often an observation is asked about again
    whose verdict is unknown and cost nothing. Other errors of the judge are raised by `answer`.
    """

    PAUSE = 0.5  # seconds before the first retry after an error; doubled each time

    def __init__(self, judge: Judge | None, timeout: float, retries: int) -> None:
        self.judge = judge
        self.timeout = timeout
        self.retries = retries
        self._judges = threading.Lock()  # a judge that hangs is not asked a second time meanwhile
        self._asked: Future[Judged]
        self._deadline = 0.0
        self._keys: list[str | None] = []  # what is judged of each rollout; None: nothing
        self._mine: dict[str, int] = {}  # what this process asks about, and its first rollout

    def ask(self, questions: Sequence[Question], texts: Sequence[str]) -> None:
        """Begin with the observations of some responses.

        One that cannot be read, missing or cut off, is not sufficient, and nobody is asked.
        """
        observations = [parse(text).observation for text in texts]
        self._keys = [
            judge_key(question, observation) if observation else None
            for question, observation in zip(questions, observations, strict=True)
        ]
        self._asked, self._deadline = Future(), time.monotonic() + self.timeout
        if self.judge is None:
            return
        everyone = gather_object([self._keys])
        before = set().union(*everyone[: training_processes().process_index])
        self._mine = {}
        for row, key in enumerate(self._keys):
            if key and key not in before:
                self._mine.setdefault(key, row)
        asked = [(questions[row], observations[row]) for row in self._mine.values()]
        # A daemon: what hangs does not keep the process from ending.
        threading.Thread(
            target=self._work, args=(self._asked, asked, self._deadline), name="judge", daemon=True
        ).start()

    def answer(self) -> Judged:
        """The verdicts on what was asked last, in order.

        One handed out a second time carries no cost: sums over verdicts are what was paid.
        """
        if self.judge is None:
            return Judged([None] * len(self._keys))
        try:
            judged = self._asked.result(max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            late = _unknown(f"no verdict within {self.timeout:g} s")
            judged = Judged([late] * len(self._mine), seconds=self.timeout)
        found = dict(zip(self._mine, judged.verdicts, strict=True))
        known = {key: verdict for part in gather_object([found]) for key, verdict in part.items()}
        verdicts = [
            NO_OBSERVATION if key is None
            else known[key] if self._mine.get(key) == row
            else reused(known[key])
            for row, key in enumerate(self._keys)
        ]  # fmt: skip
        return Judged(verdicts, judged.calls, judged.seconds)

    def _work(
        self, asked: Future[Judged], pairs: Sequence[tuple[Question, str]], deadline: float
    ) -> None:
        try:
            with self._judges:
                if time.monotonic() < deadline:
                    asked.set_result(self._judge(pairs, deadline))
        except BaseException as error:  # it is raised where the verdicts are waited for
            asked.set_exception(error)

    def _judge(self, pairs: Sequence[tuple[Question, str]], deadline: float) -> Judged:
        """A verdict on each; no retry begins after `deadline` (s, `time.monotonic`)."""
        start, calls = time.perf_counter(), 0
        verdicts = [_UNASKED] * len(pairs)
        for attempt in range(self.retries + 1):
            rows = [row for row, verdict in enumerate(verdicts) if _failed(verdict)]
            if not rows or (attempt and time.monotonic() >= deadline):
                break
            asked = [pairs[row] for row in rows]
            try:
                found = self.judge.judge([q for q, _ in asked], [seen for _, seen in asked])
            except OSError as error:
                found = [_unknown(f"{type(error).__name__}: {error}")] * len(rows)
                pause = self.PAUSE * 2**attempt if attempt < self.retries else 0.0
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            calls += sum(not verdict.usage.get("reused") for verdict in found)
            for row, verdict in zip(rows, found, strict=True):
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
