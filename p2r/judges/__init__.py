"""Judges: is an observation sufficient to deduce the right answer?

A judge sees the question, the right answer and the observation. The judge `vision` also sees frames
of the video; the others see no pixels.

    judge = make_judge("claude")                          # or oracle, server:URL#MODEL, a panel …
    verdict = await judge.judge(question, observation)    # one
    verdicts = judge.judge(questions, observations)       # many, in order

Each kind of judge is one file in `kinds`. A cache, shared by all runs, keeps paid verdicts
(`cache`). A ledger keeps the tokens and the price of every call (`ledger`).
"""

from p2r.judges.base import (
    NO_OBSERVATION,
    BaseJudge,
    Judge,
    judge_distinct,
    judge_key,
    judge_observations,
    reused,
    sees_media,
)
from p2r.judges.journaled import JournaledJudge
from p2r.judges.make import (
    JUDGES,
    asks_nothing,
    check_spec,
    is_free,
    kinds_of,
    make_judge,
    runs_user_code,
    sources_of,
)

__all__ = [
    "JUDGES",
    "NO_OBSERVATION",
    "BaseJudge",
    "JournaledJudge",
    "Judge",
    "asks_nothing",
    "check_spec",
    "is_free",
    "judge_distinct",
    "judge_key",
    "judge_observations",
    "kinds_of",
    "make_judge",
    "reused",
    "runs_user_code",
    "sees_media",
    "sources_of",
]
