"""Numbers of an RL step for the log: of its rollouts, and of the terms of its loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from trl.trainer.utils import nanmax, nanmin

from p2r.playground.truth import METRICS, has_scene, mean_of_known
from p2r.records import Case, ProcessReward
from p2r.rewards import PROCESSES, collapsed, process_masks
from p2r.scoring.thoughts import mismatch
from p2r.training.step_judge import judged_verdicts

Terms = dict[str, torch.Tensor]  # (B, T) each, see `p2r.training.step.loss`


def rollout_metrics(cases: Sequence[Case], rewards: Any, group_size: int) -> dict[str, float]:
    """Return the numbers of a step for the log: rewards by part, lengths, unknowns, collapse.

    `rewards` (N, 2) belong to the cases. A group has collapsed for a process if its known rewards
    are all equal; "joint/collapse" counts groups that have collapsed for both. Accuracies are means
    over the known ones. "judge/unknown" is the share of judged observations without a verdict.
    "judge/cost" is the price of the verdicts in US dollars. "mismatch" is the share of answers that
    differ from the conclusion of their thinking, among those where
    `p2r.scoring.thoughts.mismatch` can tell. If the scene of a question is known (playground),
    there are also the means of `p2r.playground.truth.METRICS`: "exact" answers, "faithful" (the
    share of true sentences) and "sufficient and true".
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
    decided = [found for case in cases if (found := mismatch(case)) is not None]
    metrics["mismatch"] = float(np.mean(decided)) if decided else math.nan
    if any(has_scene(case.question) for case in cases):
        means = {name: mean_of_known(map(measure, cases)) for name, measure in METRICS.items()}
        metrics |= {name: math.nan if mean is None else mean for name, mean in means.items()}
    metrics["truncated"] = float(np.mean([case.trace.truncated for case in cases]))
    return metrics


def loss_metrics(inputs: Mapping[str, Any], terms: Terms, accelerator: Accelerator) -> dict:
    """Return the terms of a micro-batch of all workers, under TRL's names."""
    weights, reduce = inputs["weights"], partial(accelerator.reduce, reduction="sum")

    def mean(values: torch.Tensor) -> float:
        total, count = reduce(torch.stack([(values * weights).sum(), weights.sum().float()]))
        return (total / count.clamp(min=1.0)).item()

    def by_row(values: torch.Tensor) -> torch.Tensor:
        return accelerator.gather((values * weights).sum(-1) / weights.sum(-1))

    low, high = terms["clipped low"], terms["clipped high"]
    values = {name: mean(term) for name, term in terms.items() if not name.startswith("clipped")}
    values["clip_ratio/low_mean"], values["clip_ratio/high_mean"] = mean(low), mean(high)
    values["clip_ratio/region_mean"] = mean(low + high)
    values["clip_ratio/low_min"] = nanmin(by_row(low)).item()
    values["clip_ratio/high_max"] = nanmax(by_row(high)).item()
    return values


def process_sums(inputs: Mapping[str, Any], terms: Terms) -> tuple[list[str], torch.Tensor]:
    """Return the names of the terms, and the sums of the tokens and of each term, (2, 1 + names).

    A row of the sums is one process. `process_means` makes means of them, over all tokens of a
    process in an update. So the means do not depend on how rows are split into micro-batches.
    """
    found = {name: term for name, term in terms.items() if not name.startswith("clipped")}
    if "old_per_token_logps" in inputs:  # without them the ratio is 1 and nothing is clipped
        found["clip_ratio"] = terms["clipped low"] + terms["clipped high"]
    masks = torch.stack(process_masks(inputs["perception_tokens"], inputs["completion_mask"]))
    table = torch.stack([torch.ones_like(terms["entropy"]), *found.values()])
    return list(found), torch.einsum("pbt,vbt->pv", masks.to(table.dtype), table)


def process_means(names: Sequence[str], sums: torch.Tensor) -> dict[str, float]:
    """Return the mean of each term over the tokens of each process that has any."""
    return {
        f"{process}/{name}": total / tokens
        for process, (tokens, *totals) in zip(PROCESSES, sums.tolist(), strict=True)
        if tokens
        for name, total in zip(names, totals, strict=True)
    }
