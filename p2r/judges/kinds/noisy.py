"""A judge with errors at a known rate, to study how much noise training tolerates."""

from __future__ import annotations

import hashlib
from typing import Any

from p2r.errors import JudgeError
from p2r.judges.base import BaseJudge, identity_of, judge_key
from p2r.judges.make import JudgeMaker, Spec
from p2r.records import Question, Verdict


class NoisyJudge(BaseJudge):
    """Inverts a share `rate` of a judge's verdicts; equal seeds invert equal verdicts."""

    form = "RATE:JUDGE"
    free = True

    @classmethod
    def read_spec(cls, text: str) -> dict[str, Any]:
        """Read the rate and the inner judge's spec; raises ValueError if one is missing."""
        rate, _, judge = text.partition(":")
        if not judge:
            raise ValueError(text)
        return {"rate": float(rate), "judge": judge}

    @classmethod
    def make(cls, maker: JudgeMaker, judge: Spec, rate: float, seed: int = 0) -> NoisyJudge:
        """Make the judge with this spec, with errors."""
        return cls(maker.make(judge), rate, seed)

    def __init__(self, judge: BaseJudge, rate: float, seed: int = 0) -> None:
        if not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise JudgeError(f"the error rate of a noisy judge is from 0 to 1, not {rate!r}")
        self.inner = judge
        self.rate = rate
        self.seed = seed
        end = f"@{seed}" if seed else ""
        self.name = f"noisy:{rate:g}:{judge.name}{end}"
        self.identity = f"noisy:{rate:g}:{identity_of(judge)}{end}"

    def parts(self) -> list[BaseJudge]:
        """Return the parts of the inner judge."""
        return self.inner.parts()

    async def ask(self, question: Question, observation: str) -> Verdict:
        """Return the inner judge's verdict, perhaps inverted; an unknown one stays unknown."""
        verdict = await self.inner.ask(question, observation)
        update: dict[str, Any] = {"judge": self.name}
        if verdict.sufficient is not None and self._errs(judge_key(question, observation)):
            update |= {
                "sufficient": not verdict.sufficient,
                "rationale": f"(inverted by noise) {verdict.rationale}",
            }
        return verdict.model_copy(update=update)

    def _errs(self, key: str) -> bool:
        digest = hashlib.sha256(f"{self.seed}/{key}".encode()).digest()
        return int.from_bytes(digest[:8], "big") < self.rate * 2**64


JUDGE = NoisyJudge
