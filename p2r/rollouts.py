"""Rollouts of PA-GRPO: from sampled text to scored cases (eq. 5) and to the numbers a step is
watched by, and when to stop because the judge is silent.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from textwrap import shorten
from typing import Any

import numpy as np

from .judges import NO_OBSERVATION, Judge, judge_distinct
from .recipe import RlSettings
from .records import Case, ProcessReward, Question, Trace, Verdict
from .rewards import PROCESSES, collapsed, process_reward
from .scoring import accuracy
from .template import answer_of, parse, perception_length
from .training import TrainingError

log = logging.getLogger(__name__)


def judge_rollouts(
    judge: Judge | None, questions: Sequence[Question], texts: Sequence[str]
) -> list[Verdict | None]:
    """A verdict for every rollout; equal observations on one question are judged once.

    An observation that cannot be read, missing or cut off, is not sufficient, and nobody is asked.
    Without a judge all verdicts are None.
    """
    if judge is None:
        return [None] * len(texts)
    observations = [parse(text).observation for text in texts]
    verdicts = [NO_OBSERVATION] * len(texts)
    readable = [row for row, observation in enumerate(observations) if observation]
    found = judge_distinct(
        judge.judge,
        [questions[row] for row in readable],
        [observations[row] for row in readable],
    )
    for row, verdict in zip(readable, found, strict=True):
        verdicts[row] = verdict
    return verdicts


def score_rollouts(
    tokenizer: Any,
    questions: Sequence[Question],
    texts: Sequence[str],
    completions: Sequence[Sequence[int]],
    truncated: Sequence[bool],
    verdicts: Sequence[Verdict | None],
    settings: RlSettings,
    trace_fields: Sequence[dict[str, Any]],
) -> list[Case]:
    """One case per rollout with both process rewards of eq. (5).

    `completions` are token ids with the end of turn, without pads; `verdicts` are those of
    `judge_rollouts`; `trace_fields` are further fields of each `Trace`. An answer that is missing
    or cannot be read earns 0; an answer whose truth cannot be scored, and a verdict that the judge
    could not give, are unknown.
    """
    bonus = settings.length_bonus if "length" in settings.rewards else 0.0
    cases = []
    for question, text, ids, cut, verdict, fields in zip(
        questions, texts, completions, truncated, verdicts, trace_fields, strict=True
    ):
        part = parse(text)
        looked = perception_length(tokenizer, ids)
        sufficient = verdict.sufficient if verdict else None
        right = accuracy(question.problem_type, answer_of(text), question.answer, question.options)
        trace = Trace(
            question_id=question.id,
            text=text,
            observation=part.observation,
            think=part.think,
            answer=part.answer,
            problems=part.problems,
            completion_tokens=len(ids),
            perception_tokens=looked,
            truncated=cut,
            **fields,
        )
        perception = process_reward(
            None if sufficient is None else float(sufficient),
            part.format_ok["perception"],
            looked,
            settings.length_ranges.perception,
            bonus,
        )
        reasoning = process_reward(
            right,
            part.format_ok["reasoning"],
            len(ids) - looked,
            settings.length_ranges.reasoning,
            bonus,
        )
        cases.append(
            Case(
                question=question,
                trace=trace,
                accuracy=right,
                verdict=verdict,
                perception=perception,
                reasoning=reasoning,
            )
        )
    return cases


def rollout_metrics(cases: Sequence[Case], rewards: Any, group_size: int) -> dict[str, float]:
    """The numbers a step is watched by: rewards by part, lengths, what is unknown, and collapse.

    `rewards` (N, 2) are those of the cases. A group has collapsed for a process whose rewards are
    all equal or unknown, jointly when for both. Accuracies are means over the known.
    "judge/unknown" is the share of the judged observations that got no verdict.
    """
    metrics: dict[str, float] = {}
    for process in PROCESSES:
        parts: list[ProcessReward] = [getattr(case, process) for case in cases]
        known = [part.accuracy for part in parts if part.accuracy is not None]
        metrics[f"{process}/accuracy"] = float(np.mean(known)) if known else math.nan
        metrics[f"{process}/format"] = float(np.mean([part.format for part in parts]))
        metrics[f"{process}/length_bonus"] = float(np.mean([part.length for part in parts]))
        metrics[f"{process}/unknown"] = 1 - len(known) / len(parts)
    looked = np.array([case.trace.perception_tokens for case in cases])
    total = np.array([case.trace.completion_tokens for case in cases])
    metrics["perception/tokens"] = float(looked.mean())
    metrics["reasoning/tokens"] = float((total - looked).mean())
    flat = np.asarray(collapsed(rewards, group_size), dtype=bool)
    metrics["perception/collapse"], metrics["reasoning/collapse"] = flat.mean(0).tolist()
    metrics["joint/collapse"] = float(flat.all(1).mean())
    judged = judged_verdicts(cases)
    silent = [verdict.sufficient is None for verdict in judged]
    metrics["judge/unknown"] = float(np.mean(silent)) if judged else math.nan
    metrics["truncated"] = float(np.mean([case.trace.truncated for case in cases]))
    return metrics


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
