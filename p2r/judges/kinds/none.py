"""No judge: nothing is asked, every verdict is unknown."""

from __future__ import annotations

from p2r.judges.base import BaseJudge
from p2r.records import Question, Verdict


class NoJudge(BaseJudge):
    """Answers every question with an unknown verdict, for free."""

    name = "none"
    free = True

    async def ask(self, question: Question, observation: str) -> Verdict:
        """Return an unknown verdict."""
        return Verdict(sufficient=None, rationale="not asked", judge=self.name)


JUDGE = NoJudge
