"""Rollouts of PA-GRPO: from sampled text to scored cases (eq. 5) and to the numbers a step is
watched by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from p2r.records import Case, ProcessReward, Question, Trace, Verdict
from p2r.rewards import PROCESSES, collapsed, process_reward
from p2r.runs.recipe import RlSettings
from p2r.scoring import accuracy
from p2r.scoring.thoughts import mismatch, mismatch_tags
from p2r.template import answer_of, parse, perception_length
from p2r.training.step_judge import judged_verdicts


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
    `p2r.training.step_judge`; `trace_fields` are further fields of each `Trace`. An answer that is
    missing or cannot be read earns 0; an answer whose truth cannot be scored, and a verdict that
    the judge could not give, are unknown.
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
        case = Case(
            question=question,
            trace=trace,
            accuracy=right,
            verdict=verdict,
            perception=perception,
            reasoning=reasoning,
        )
        case.tags = mismatch_tags(case)
        cases.append(case)
    return cases


def rollout_metrics(cases: Sequence[Case], rewards: Any, group_size: int) -> dict[str, float]:
    """The numbers a step is watched by: rewards by part, lengths, what is unknown, and collapse.

    `rewards` (N, 2) are those of the cases. A group has collapsed for a process whose rewards are
    all equal or unknown, jointly when for both. Accuracies are means over the known.
    "judge/unknown" is the share of the judged observations that got no verdict, "judge/cost" what
    was paid for them (US dollars), "mismatch" the share of answers that differ from what their
    thinking ended on, of those where the rule of `p2r.scoring.thoughts.mismatch` can say.
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
    metrics["judge/cost"] = sum(verdict.cost for verdict in judged)
    ruled = [found for case in cases if (found := mismatch(case)) is not None]
    metrics["mismatch"] = float(np.mean(ruled)) if ruled else math.nan
    metrics["truncated"] = float(np.mean([case.trace.truncated for case in cases]))
    return metrics
