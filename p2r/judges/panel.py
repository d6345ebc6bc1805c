"""A panel: several judges on one observation, and what they disagreed on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from p2r.errors import JudgeError
from p2r.judges.base import BaseJudge
from p2r.records import Question, Verdict

Rule = Literal["majority", "unanimity"]


class PanelJudge(BaseJudge):
    """Asks all its members at once; their votes stay in the verdict.

    majority: the word of more than half of all members. unanimity: sufficient if all say so, not
    sufficient if one says no. A member without a verdict votes neither way; where the others do not
    settle it, the panel has none.
    """

    def __init__(self, members: Sequence[BaseJudge], rule: Rule = "majority") -> None:
        if len(members) < 2:
            raise JudgeError("a panel has at least two judges")
        self.members = list(members)
        self.rule = rule
        self.name = f"panel-{rule}({','.join(member.name for member in members)})"

    def parts(self) -> list[BaseJudge]:
        """The members, or what they are made of."""
        return [part for member in self.members for part in member.parts()]

    async def ask(self, question: Question, observation: str) -> Verdict:
        """The panel's verdict; its cost is that of all votes."""
        asked = [member.ask(question, observation) for member in self.members]
        votes = await asyncio.gather(*asked, return_exceptions=True)
        for vote in votes:
            if isinstance(vote, BaseException):
                raise vote
        sufficient = decide([vote.sufficient for vote in votes], self.rule)
        words = {True: "sufficient", False: "not sufficient", None: "no verdict"}
        return Verdict(
            sufficient=sufficient,
            rationale="\n".join(f"{v.judge}: {words[v.sufficient]}. {v.rationale}" for v in votes),
            judge=self.name,
            usage=_sum_usage(votes),
            cost=sum(vote.cost for vote in votes),
            votes=[vote.model_dump(include={"judge", "sufficient", "cost"}) for vote in votes],
        )


def decide(votes: Sequence[bool | None], rule: Rule) -> bool | None:
    """The panel's word, from those of its members."""
    yes, no = votes.count(True), votes.count(False)
    if rule == "unanimity":
        return False if no else True if yes == len(votes) else None
    return True if 2 * yes > len(votes) else False if 2 * no > len(votes) else None


def _sum_usage(votes: Sequence[Verdict]) -> dict:
    total: dict = {}
    for vote in votes:
        for name, value in vote.usage.items():
            if isinstance(value, bool):
                total[name] = total.get(name, True) and value
            else:
                total[name] = total.get(name, 0) + value
    return total
