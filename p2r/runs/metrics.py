"""Reads `metrics.jsonl`, the log of a training: one line per step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from p2r.files.jsonlines import from_line


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a log by step. If a step is there twice, the last row counts.

    Skips damaged lines, lines without a step, and an incomplete last line, which a killed worker or
    a full disk leaves. Returns [] if the file is missing.
    """
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except OSError:
        return []
    rows: dict[float, dict[str, Any]] = {}
    for line in lines:
        try:
            row = from_line(line)
        except (ValueError, RecursionError):
            continue
        step = row.get("step") if isinstance(row, dict) else None
        if isinstance(step, int | float) and abs(step) <= sys.float_info.max:
            rows[step] = row
    return [rows[step] for step in sorted(rows)]
