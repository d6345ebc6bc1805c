"""Decode files in subprocess workers: a decoder that hangs or crashes costs one file, not the run.

`P2R_VIDEO_WORKERS` limits the number of workers. Each thread uses one worker at a time. The code
that runs in a worker is `p2r.video.worker`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from p2r.workers import WorkerFailed, WorkerPool

WORKERS = int(os.environ.get("P2R_VIDEO_WORKERS") or min(4, os.cpu_count() or 1))
MAX_REASON = 300  # characters


class DecodeFailure(Exception):
    """Why a file could not be decoded, in one line.

    `lost` names the stage in which a worker crashed or hung; it is empty for a bad file.
    """

    def __init__(self, reason: str, lost: str = ""):
        super().__init__(" ".join(reason.split())[:MAX_REASON])
        self.lost = lost


pool = WorkerPool("p2r.video.worker:start", WORKERS)


def decode(request: dict[str, Any], timeout: float) -> tuple[dict[str, Any], np.ndarray]:
    """Return what `p2r.video.worker.read` found: the fields of `Frames` and the pixels.

    If decord hangs or crashes, PyAV alone decodes the file in a second attempt.
    """
    try:
        return _decode_once(request, timeout)
    except DecodeFailure as failure:
        if failure.lost != "decord":
            raise
    return _decode_once(request | {"decord": False}, timeout)


def _decode_once(request: dict[str, Any], timeout: float) -> tuple[dict[str, Any], np.ndarray]:
    stage = "opening"

    def enter(progress: dict[str, Any]) -> None:
        nonlocal stage
        stage = progress["stage"]

    try:
        answer, pixels = pool.ask(request, timeout, enter)
    except WorkerFailed as failed:
        what = f"the decoder crashed ({stage}): {failed}"
        if failed.kind == "late":
            what = f"no result within {timeout:g} s ({stage})"
        raise DecodeFailure(what, lost=stage) from None
    if "reason" in answer:
        raise DecodeFailure(answer["reason"])
    return answer, pixels.reshape(answer.pop("shape"))
