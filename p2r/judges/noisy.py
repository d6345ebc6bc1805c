"""A judge that errs at a known rate: for studies of how much noise training bears."""

from __future__ import annotations

import hashlib

from p2r.errors import JudgeError
from p2r.judges.base import BaseJudge, judge_key
from p2r.records import Question, Verdict


class NoisyJudge(BaseJudge):
    """Turns a share `rate` of a judge's verdicts round, the same ones every time for one seed."""

    def __init__(self, judge: BaseJudge, rate: float, seed: int = 0) -> None:
        if not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise JudgeError(f"a noisy judge errs at a rate from 0 to 1, not {rate!r}")
        self.inner = judge
        self.rate = rate
        self.seed = seed
        self.name = f"noisy:{rate:g}:{judge.name}" + (f"@{seed}" if seed else "")

    def parts(self) -> list[BaseJudge]:
        """The judge that is turned round, or what it is made of."""
        return self.inner.parts()

    async def ask(self, question: Question, observation: str) -> Verdict:
        """The inner judge's verdict, perhaps turned round; one without a verdict stays so."""
        verdict = await self.inner.ask(question, observation)
        update = {"judge": self.name}
        if verdict.sufficient is not None and self._errs(judge_key(question, observation)):
            update |= {
                "sufficient": not verdict.sufficient,
                "rationale": f"(turned round by noise) {verdict.rationale}",
                "usage": {**verdict.usage, "turned_round": True},
            }
        return verdict.model_copy(update=update)

    def _errs(self, key: str) -> bool:
        digest = hashlib.sha256(f"{self.seed}/{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.rate * 2**64
