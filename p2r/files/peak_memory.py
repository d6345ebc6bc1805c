"""Measures the highest memory inside a block: of the tensors on a GPU, else of this OS process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MIB = 2**20
RESET = Path("/proc/self/clear_refs")  # Linux: "5" resets VmHWM, see `man 5 proc`


@contextmanager
def measured_peak(device: Any) -> Iterator[dict[str, Any]]:
    """Measure the peak memory of a `torch.device` inside the block.

    At the end of the block the result has `memory` ("cuda", "rss", or None if it cannot be
    measured) and `peak_mib`. "rss" is the resident memory of this OS process, with its libraries.
    """
    import torch

    found: dict[str, Any] = {"memory": None, "peak_mib": None}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found.update(memory="cuda", peak_mib=round(torch.cuda.max_memory_allocated(device) / MIB))
        return
    try:
        RESET.write_text("5")
    except OSError:
        yield found
        return
    yield found
    kept = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if kept is not None:
        found.update(memory="rss", peak_mib=round(int(kept[1]) / 1024))
