"""Judges: is an observation sufficient to deduce the right answer?

A judge sees question, right answer and observation, never the pixels.

    judge = make_judge("claude")                          # or oracle, server:URL#MODEL, a panel …
    verdict = await judge.judge(question, observation)    # one
    verdicts = judge.judge(questions, observations)       # many, in order

Verdicts that cost something are remembered in one file for all runs (`cache`), and every call
stands in a ledger with its tokens and its price (`ledger`).
"""

from p2r.judges.base import (
    NO_OBSERVATION,
    BaseJudge,
    Judge,
    judge_distinct,
    judge_key,
    judge_observations,
)
from p2r.judges.journaled import JournaledJudge
from p2r.judges.make import JUDGES, check_spec, kinds_of, make_judge

__all__ = [
    "JUDGES",
    "NO_OBSERVATION",
    "BaseJudge",
    "JournaledJudge",
    "Judge",
    "check_spec",
    "judge_distinct",
    "judge_key",
    "judge_observations",
    "kinds_of",
    "make_judge",
]
