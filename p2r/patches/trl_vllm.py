"""Keep TRL's trainers from importing vLLM.

Library: TRL 1.16.
Reason: TRL imports vLLM whenever it is installed, used or not, which takes half a minute. p2r
drives vLLM itself (`p2r.training.vllm_rollouts`), so it tells TRL that there is none.
Can go when: TRL imports vLLM only if `use_vllm` is set.
"""

from __future__ import annotations

from typing import Any

from p2r.patches.on_import import after_import


def apply() -> None:
    """Hide vLLM from TRL, in this OS process; has no effect on trainers imported before."""
    after_import("trl.import_utils", hide_vllm)


def hide_vllm(module: Any) -> None:
    """Make `is_vllm_available` of `trl.import_utils` return False."""
    module.is_vllm_available = lambda min_version=None: False
