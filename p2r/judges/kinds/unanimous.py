"""A panel whose members must all agree."""

from p2r.judges.kinds.panel import PanelJudge


class UnanimousJudge(PanelJudge):
    """Finds an observation sufficient if all members do."""

    default_rule = "unanimity"


JUDGE = UnanimousJudge
