"""Counts by stage: the 2 x 2 table, the failure kinds and the truth of each stage of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from p2r.browser.words import CELLS, stage_place, stage_words


@dataclass
class StageCounts:
    """The counts of one stage of one run.

    `cells`: (verdict, outcome) -> cases, with the unknown ones. `untrue`: of the sufficient
    observations, how many are true and how many are not, where the scene is known.
    """

    run: str
    stage: str
    n: int = 0
    cells: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    sufficient: Counter[str] = field(default_factory=Counter)

    @property
    def label(self) -> str:
        """The name of the stage as pages show it."""
        return stage_words(self.stage)

    @property
    def known(self) -> int:
        """The number of cases with a verdict and an outcome."""
        return sum(self.cells[cell] for cell in CELLS)

    def share(self, cell: tuple[str, str]) -> float:
        """The share of a cell among the known cases; 0 if there are none."""
        return self.cells[cell] / self.known if self.known else 0.0

    @property
    def untrue_share(self) -> float | None:
        """The share of the sufficient observations that are untrue; None if no scene is known."""
        known = self.sufficient["true"] + self.sufficient["false"]
        return self.sufficient["false"] / known if known else None


def count_stages(rows: Iterable[Mapping[str, Any]]) -> list[StageCounts]:
    """Return the counts of each stage from the rows of `CaseStore.tally`.

    Evaluations come first, from base to PA-GRPO; then the other stages, in written order.
    """
    found: dict[tuple[str, str], StageCounts] = {}
    for row in rows:
        run, stage = row["run"] or "", row["stage"] or ""
        counts = found.setdefault((run, stage), StageCounts(run, stage))
        counts.n += row["n"]
        counts.cells[row["verdict"], row["outcome"]] += row["n"]
        if row["failure"]:
            counts.failures[row["failure"]] += row["n"]
        if row["verdict"] == "yes":
            counts.sufficient[row["truth"]] += row["n"]
    return sorted(found.values(), key=lambda counts: stage_place(counts.stage))
