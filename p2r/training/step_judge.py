"""The judge inside the training loop: it works in the background, within a time limit.

`StepJudge` asks about each distinct observation once per step. `JudgeWatch` stops a training whose
judge gives no verdicts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any

from accelerate.utils import gather_object

from p2r.errors import TrainingError
from p2r.files.background import start
from p2r.judges import NO_OBSERVATION, Judge, judge_key, reused, sees_media
from p2r.records import Case, Question, Verdict
from p2r.template import parse
from p2r.training.stage import raise_together, raised_together, workers

log = logging.getLogger(__name__)
# A question, an observation, and its verdict to come if the judge has heard it already.
Asked = tuple[Question, str, "Future[Verdict] | None"]
Found = tuple[list[Verdict], int, float]  # verdicts, calls and seconds, as in `Judged`


@dataclass(frozen=True)
class Judged:
    """The verdicts on some rollouts, in order; None means that there is no judge.

    `calls` counts the observations that this worker sent to the judge, retries included. `seconds`
    is the time from `ask` to the last verdict.
    """

    verdicts: Sequence[Verdict | None]
    calls: int = 0
    seconds: float = 0.0


@dataclass
class Turn:
    """A lock for calls to the judge: only one `ask` may run at a time. `until` is its deadline."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    until: float = 0.0  # a time of `time.monotonic`

    @property
    def hangs(self) -> bool:
        """Whether a call goes on after its deadline."""
        return self.lock.locked() and time.monotonic() > self.until


class StepJudge:
    """Asks a judge in the background: `ask` starts, `answer` waits for the verdicts.

    Before `ask`, `hear` may already start to judge observations of rollouts that are still being
    sampled. Equal observations on one question are judged once, even if their rollouts are on
    different workers; an observation that several workers have heard is judged by each of them. All
    workers must call `ask` and `answer` together (see `ask` for an exception).

    `timeout` is in seconds, counted from `ask`. A verdict that comes later is unknown, and so is a
    verdict after an `OSError` of the judge (for example no connection). `retries`: how often to ask
    again about an observation whose verdict is unknown and cost nothing. `answer` raises all other
    errors of the judge, on all workers.
    """

    PAUSE = 0.5  # seconds before the first retry after an error; doubled for each further retry

    def __init__(self, judge: Judge | None, timeout: float, retries: int) -> None:
        self.judge = judge
        self.timeout = timeout
        self.retries = retries
        self._turn = Turn()  # while a call hangs, the judge gets no second call
        self._asked: Future[Found]
        self._began = self._deadline = 0.0
        self._keys: list[str | None] = []  # one per rollout; None: there is nothing to judge
        self._mine: dict[str, int] = {}  # the keys this worker asks about → the first row of each
        self._heard: dict[str, Future[Verdict]] = {}  # since the latest `ask`
        self._lost = 0  # observations that were heard, but not asked about

    def another(self) -> StepJudge:
        """Return one for another step, which may ask before this one has answered."""
        made = StepJudge(self.judge, self.timeout, self.retries)
        made._turn = self._turn  # the judge still gets one `ask` at a time
        return made

    @property
    def listens(self) -> bool:
        """Whether `hear` saves time: the judge waits for a server."""
        return bool(getattr(self.judge, "waits", False))

    def hear(self, question: Question, text: str) -> None:
        """Start to judge the observation of a response; the rest of it may still be missing.

        Only for a judge that `listens`. Does nothing while a call of the step before hangs.
        """
        if self._turn.hangs:
            return
        judge: Any = self.judge
        if observation := parse(text).observation:
            key = judge_key(question, observation, sees_media(judge))
            if key not in self._heard:
                self._heard[key] = start(judge.ask(question, observation))

    def ask(
        self, questions: Sequence[Question], texts: Sequence[str], together: bool = True
    ) -> None:
        """Start judging the observations of some responses.

        A missing or unreadable observation is not sufficient; the judge is not asked about it. With
        `together=False` one worker may ask alone, in any thread. An observation that several
        workers have is then judged by each of them.
        """
        observations = [parse(text).observation for text in texts]
        self._keys = [
            judge_key(question, observation, sees_media(self.judge)) if observation else None
            for question, observation in zip(questions, observations, strict=True)
        ]
        self._asked, self._began = Future(), time.monotonic()
        self._deadline = self._began + self.timeout
        heard, self._heard = self._heard, {}
        if self.judge is None:
            return
        before: set[str | None] = set()
        if together:
            before = before.union(*gather_object([self._keys])[: workers().process_index])
        self._mine = {}
        for row, key in enumerate(self._keys):
            if key and (key not in before or key in heard):
                self._mine.setdefault(key, row)
        self._lost = len(heard.keys() - self._mine.keys())
        asked = [
            (questions[row], observations[row], heard.get(key)) for key, row in self._mine.items()
        ]
        # A daemon thread: a call that hangs does not keep Python from exiting.
        threading.Thread(
            target=self._work, args=(self._asked, asked, self._deadline), name="judge", daemon=True
        ).start()

    def answer(self) -> Judged:
        """Wait for the verdicts on the latest `ask` and return them in order.

        Only the first of several equal verdicts carries its cost, so that the sum of costs is what
        was paid.
        """
        if self.judge is None:
            return Judged([None] * len(self._keys))
        try:
            found, calls, seconds = self._asked.result(max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            late = _unknown(f"no verdict within {self.timeout:g} s")
            found, calls, seconds = [late] * len(self._mine), 0, self.timeout
        except Exception as raised:  # the other workers wait for verdicts: they must know
            raise_together(raised)
            raise
        raise_together(None)
        mine = dict(zip(self._mine, found, strict=True))
        known = _merge(gather_object([mine]))
        verdicts = [
            NO_OBSERVATION if key is None
            else _at_cost_of(mine[key], known[key]) if self._mine.get(key) == row
            else reused(known[key])
            for row, key in enumerate(self._keys)
        ]  # fmt: skip
        return Judged(verdicts, calls, seconds)

    def _work(self, asked: Future[Found], observations: Sequence[Asked], deadline: float) -> None:
        try:
            with self._turn.lock:
                self._turn.until = deadline
                if time.monotonic() < deadline:
                    asked.set_result(self._judge(observations, deadline))
        except BaseException as error:  # `answer` raises it
            asked.set_exception(error)

    def _judge(self, observations: Sequence[Asked], deadline: float) -> Found:
        """Judge every observation; start no call after `deadline`, a time of `time.monotonic`.

        The call about an observation that the judge has heard is its first attempt.
        """
        assert self.judge is not None
        wait(heard for _, _, heard in observations if heard)  # the others end if one fails
        early = [heard and _result(heard) for _, _, heard in observations]
        verdicts = [verdict or _unknown("not asked") for verdict in early]
        calls = self._lost + sum(not each.usage.get("reused") for each in early if each)
        for attempt in range(self.retries + 1):
            rows = [
                row
                for row, verdict in enumerate(verdicts)
                if _failed(verdict) and (attempt or not early[row])
            ]
            if not any(map(_failed, verdicts)) or time.monotonic() >= deadline:
                break
            if not rows:
                continue
            asked = [observations[row][:2] for row in rows]
            try:
                found = self.judge.judge([q for q, _ in asked], [seen for _, seen in asked])
            except OSError as error:
                found = [_unknown(f"{type(error).__name__}: {error}")] * len(rows)
                pause = self.PAUSE * 2**attempt if attempt < self.retries else 0.0
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            calls += sum(not verdict.usage.get("reused") for verdict in found)
            for row, verdict in zip(rows, found, strict=True):
                verdicts[row] = verdict
        return verdicts, calls, time.monotonic() - self._began


def _result(heard: Future[Verdict]) -> Verdict:
    try:
        return heard.result()
    except OSError as error:
        return _unknown(f"{type(error).__name__}: {error}")


def _merge(found: Sequence[Mapping[str, Verdict]]) -> dict[str, Verdict]:
    """Return one verdict for each key: the first known one of all workers."""
    known: dict[str, Verdict] = {}
    for part in found:
        for key, verdict in part.items():
            if key not in known or known[key].sufficient is None:
                known[key] = verdict
    return known


def _at_cost_of(own: Verdict, shared: Verdict) -> Verdict:
    """Return the shared verdict with the cost that this worker has paid."""
    return shared.model_copy(update={"usage": own.usage, "cost": own.cost})


def _unknown(reason: str) -> Verdict:
    return Verdict(sufficient=None, rationale=reason)


def _failed(verdict: Verdict) -> bool:
    """Return whether to ask again: the verdict is unknown and cost nothing."""
    return verdict.sufficient is None and not verdict.usage


def judged_verdicts(cases: Sequence[Case]) -> list[Verdict]:
    """Return the verdicts on readable observations; the judge sees no others."""
    return [case.verdict for case in cases if case.verdict and case.trace.observation]


class JudgeWatch:
    """Tolerates missing verdicts up to a limit, then stops the training.

    The share of observations without a verdict is averaged over the last `STEPS` steps. Before the
    fifth step, missing steps count as fully answered. So a judge that is down at the start gets as
    much time to come back as a judge that fails later.
    """

    STEPS = 5

    def __init__(self, max_unknown: float) -> None:
        self.max_unknown = max_unknown
        self._shares: deque[float] = deque([0.0] * self.STEPS, maxlen=self.STEPS)

    def check(self, cases: Sequence[Case]) -> None:
        """Add the rollouts of a step and log a warning if verdicts are missing.

        Raises `TrainingError` if the share of missing verdicts is larger than `max_unknown`.
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
            error = TrainingError(
                f"the judge gave no verdict on {len(silent)} of {len(judged)} observations of this "
                f"step, and its share of missing verdicts in the last {self.STEPS} steps is above "
                f"rl.max_unknown={self.max_unknown:g}; its last reason: {reason}. Repair the judge "
                "and start again (training continues with this step), or start a new run with "
                "another rl.judge or without the perception reward (rl.rewards, rl.credit=outcome)"
            )
            raise raised_together(error)
