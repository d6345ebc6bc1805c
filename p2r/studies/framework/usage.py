"""Measures what a part of a study uses: seconds, processor time, memory and energy.

Energy is the energy counter of the GPU, plus an estimate for the processor: processor seconds times
the power of a busy virtual core. The estimate leaves out memory, disks and cooling.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from p2r.files.peak_memory import measured_peak

CORE_WATTS = 3.5  # a busy virtual core at AWS: cloudcarbonfootprint.org/docs/methodology
KINDS = {  # key of a row of times.jsonl -> name of its table
    "seconds": "seconds per question",
    "joules": "joules per question, estimated",
    "peak_mib": "highest memory, MiB",
}
log = logging.getLogger(__name__)


@contextmanager
def measure_usage() -> Iterator[dict[str, float]]:
    """Yield a dict that has `seconds`, `cpu_seconds`, `joules` and `peak_mib` when the block ends.

    `cpu_seconds` are those of this process and of its finished subprocesses. `peak_mib` is the
    highest memory of the GPU's tensors. Without a GPU it is the highest memory of this process,
    with the libraries. A value that this machine cannot measure is left out: `joules` if NVML is
    missing for a GPU, `peak_mib` without a GPU and without Linux.
    """
    import torch

    found: dict[str, float] = {}
    begun, cpu, joules = time.monotonic(), _cpu_seconds(), _gpu_joules()
    with measured_peak(torch.device("cuda" if torch.cuda.is_available() else "cpu")) as peak:
        yield found
    found["seconds"] = round(time.monotonic() - begun, 2)
    found["cpu_seconds"] = round(_cpu_seconds() - cpu, 2)
    used = _gpu_joules()
    if joules is not None and used is not None:
        found["joules"] = round(used - joules + found["cpu_seconds"] * CORE_WATTS, 2)
    if peak["peak_mib"] is not None:
        found["peak_mib"] = peak["peak_mib"]


def per_question(
    parts: Sequence[Sequence[Mapping[str, float]]], questions: int
) -> dict[str, dict[str, float]]:
    """Return mean, lowest and highest value of each of `KINDS`, per question.

    `parts` has the rows of one seed each: all work that the answers of this seed need. Seconds and
    joules are summed over these rows, memory is the highest one. A seed with a row that lacks a
    value does not count for this value.
    """
    found = {}
    for key in KINDS:
        known = [
            max(row[key] for row in rows)
            if key == "peak_mib"
            else sum(row[key] for row in rows) / questions
            for rows in parts
            if rows and all(key in row for row in rows)
        ]
        if known:
            mean = sum(known) / len(known)
            found[key] = {"mean": mean, "low": min(known), "high": max(known)}
    return found


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _gpu_joules() -> float | None:
    """Return the energy that this GPU has used so far; 0 without a GPU, None if it is unknown."""
    import torch

    if not torch.cuda.is_available():
        return 0.0
    try:
        import pynvml

        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except Exception as error:  # pynvml is not installed, or the GPU has no counter
        log.debug("no energy of the GPU: %s", error)
        return None
