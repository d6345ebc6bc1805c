"""Checks before the first update that policy and reference give the same log-probs.

A reference that lost weights (for example while they were sharded) gives a wrong KL term and no
error. This check costs nothing: it compares log-probs that the first step computes
anyway.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from accelerate.utils import gather_object
from peft import PeftModel

from p2r.errors import TrainingError

# The largest mean difference of a token's log-prob. Two ways to compute the same bfloat16 model
# differ by rounding, by 0.02 in measured cases.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}


def check_reference(
    policy_log_probs: torch.Tensor,
    reference_log_probs: torch.Tensor,
    mask: torch.Tensor,
    policy: Any,
    reference: Any | None,
    precision: torch.dtype,
) -> None:
    """Compare the log-probs (B, T) of the policy and the reference on completion tokens (`mask`).

    All workers must call this together, before the first update. `reference` is None if the policy
    without its adapters is the reference. Raises `TrainingError` on every worker if the mean
    absolute difference over all workers is above `TOLERANCE`; the error names the workers and, if
    it is found, the parameter that differs.
    """
    gaps = (policy_log_probs.detach() - reference_log_probs).abs()[mask.bool()]
    found = gather_object([(gaps.sum().item(), gaps.numel())])
    mean = sum(total for total, _ in found) / max(1, sum(count for _, count in found))
    if mean <= TOLERANCE[precision]:  # false if it is not a number
        return
    off = gather_object([find_difference(policy, reference)])
    each = ", ".join(
        f"rank {rank}: {total / max(1, count):.4g}{f' ({name})' if name else ''}"
        for rank, ((total, count), name) in enumerate(zip(found, off, strict=True))
    )
    unknown = "" if any(off) else "; no parameter differs, so their inputs or passes differ"
    raise TrainingError(
        f"before the first update, the log-probs of policy and reference differ by {mean:.4g} per "
        f"token on average (at most {TOLERANCE[precision]:g} is rounding) [{each}]{unknown}. The "
        "KL term would be wrong, so RL stops. Start with another accelerate config, or with "
        "rl.beta=0 to train without a reference"
    )


def find_difference(policy: Any, reference: Any | None) -> str | None:
    """Return the parameter or buffer that differs most on this worker, with its difference.

    Of a model that is split over the workers, each worker compares its own part. Without a
    `reference`, the adapters must add nothing.
    """
    worst, where = 0.0, None
    for name, ours, theirs in _pairs(policy, reference):
        gap = (ours - theirs).abs().max().item() if ours.numel() else 0.0
        if math.isnan(gap):
            return f"{name} differs: it has values that are not numbers"
        if gap > worst:
            worst, where = gap, name
    return None if where is None else f"{where} differs by up to {worst:.3g}"


def _pairs(policy: Any, reference: Any | None) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    if reference is None:
        if isinstance(policy, PeftModel):
            for name, tensor in policy.named_parameters():
                if "lora_B" in name:
                    part = _own_part(tensor)
                    yield name, part, torch.zeros_like(part)
        return
    theirs = dict(chain(reference.named_parameters(), reference.named_buffers()))
    for name, tensor in chain(policy.named_parameters(), policy.named_buffers()):
        ours = _own_part(tensor)
        other = _own_part(theirs[name]) if name in theirs else None
        if other is not None and ours.shape == other.shape:
            yield name, ours, other.to(ours.device)


def _own_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return this worker's part of a tensor that DeepSpeed or FSDP2 has split, as float32."""
    part = getattr(tensor, "ds_tensor", tensor).detach()
    part = part.to_local() if hasattr(part, "to_local") else part
    return part.float()
