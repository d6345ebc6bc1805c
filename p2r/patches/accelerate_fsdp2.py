"""Let FSDP2 in bfloat16 return float32 log-probs.

Library: accelerate 1.15.
Reason: with `mixed_precision: bf16`, accelerate sets the `output_dtype` of FSDP2's policy to
bfloat16, so all outputs of a model are rounded. RL needs float32 log-probs: in a simulation of
20,000 tokens, rounding to bfloat16 turned a mean KL term of 2.0e-4 into -0.4e-4.
Can go when: accelerate leaves `output_dtype` unset.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from p2r.patches.on_import import after_import


def apply() -> None:
    """Change the policy that accelerate makes for FSDP2."""
    after_import("accelerate.utils.dataclasses", keep_output_dtype)


def keep_output_dtype(module: Any) -> None:
    """Wrap `set_mixed_precision` of accelerate's FSDP plugin."""
    plugin = module.FullyShardedDataParallelPlugin
    original = plugin.set_mixed_precision

    def set_mixed_precision(self: Any, *arguments: Any, **settings: Any) -> None:
        given = self.mixed_precision_policy
        original(self, *arguments, **settings)
        if self.fsdp_version == 2 and given is None and self.mixed_precision_policy is not None:
            self.mixed_precision_policy = replace(self.mixed_precision_policy, output_dtype=None)

    plugin.set_mixed_precision = set_mixed_precision
