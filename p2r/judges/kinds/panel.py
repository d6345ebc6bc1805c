"""A panel: several judges decide on one observation; all their votes are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from p2r.errors import JudgeError
from p2r.judges.base import BaseJudge, all_verdicts, identity_of
from p2r.judges.make import JudgeMaker, Spec, split_specs
from p2r.records import Question, Verdict

Rule = Literal["majority", "unanimity"]
RULES: tuple[Rule, ...] = ("majority", "unanimity")


class PanelJudge(BaseJudge):
    """Asks all its members at the same time and keeps their votes in the verdict.

    majority: more than half of all members decide. unanimity: sufficient if all members say so, not
    sufficient if one says no. A member without a verdict has no vote. If the other votes do not
    decide, the panel has no verdict.
    """

    form = "JUDGE,JUDGE,…"
    free = True
    default_rule: ClassVar[Rule] = "majority"

    @classmethod
    def read_spec(cls, text: str) -> dict[str, Any]:
        """Read the members' specs; raises ValueError for fewer than two."""
        if len(judges := split_specs(text)) < 2:
            raise ValueError(text)
        return {"judges": judges}

    @classmethod
    def make(
        cls, maker: JudgeMaker, judges: str | Sequence[Spec], rule: Rule | None = None
    ) -> PanelJudge:
        """Make a panel of the judges with these specs."""
        specs = split_specs(judges) if isinstance(judges, str) else judges
        return cls([maker.make(spec) for spec in specs], rule)

    def __init__(self, members: Sequence[BaseJudge], rule: Rule | None = None) -> None:
        rule = rule or self.default_rule
        if rule not in RULES:
            raise JudgeError(f"a panel's rule is {' or '.join(RULES)}, not {rule!r}")
        if len(members) < 2:
            raise JudgeError("a panel needs at least two judges")
        self.members = list(members)
        self.rule = rule
        self.name = f"panel-{rule}({','.join(member.name for member in members)})"
        self.identity = f"panel-{rule}({','.join(map(identity_of, members))})"

    def parts(self) -> list[BaseJudge]:
        """Return the parts of all members."""
        return [part for member in self.members for part in member.parts()]

    async def ask(self, question: Question, observation: str) -> Verdict:
        """Return the panel's verdict; its cost is the sum over the votes."""
        votes = await all_verdicts(member.ask(question, observation) for member in self.members)
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
    """Return the panel's decision from the members' votes."""
    yes, no = votes.count(True), votes.count(False)
    if rule == "unanimity":
        return False if no else True if yes == len(votes) else None
    return True if 2 * yes > len(votes) else False if 2 * no > len(votes) else None


def _sum_usage(votes: Sequence[Verdict]) -> dict:
    """Return the usage of all votes; it is reused only if every vote is."""
    total: dict = {}
    for vote in votes:
        for name, value in vote.usage.items():
            if isinstance(value, bool):
                total[name] = total.get(name, True) and value
            else:
                total[name] = total.get(name, 0) + value
    if not all(vote.usage.get("reused") for vote in votes):
        total.pop("reused", None)
    return total


JUDGE = PanelJudge
