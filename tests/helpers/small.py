"""Shared by the training tests: real media files, a small recipe, a training that is cut off."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import av
import forks
import numpy as np
import pytest

from p2r.runs.recipe import Recipe, load_recipe

VIDEO = {"max_frames": 8, "max_pixels": 3136, "factor": 14}


def write_video(path: Path, count: int, height: int, width: int, rate: int, seed: int) -> None:
    """Write an MPEG-4 file of `count` frames with random coloured blocks."""
    noise = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for _ in range(count):
            blocks = noise.integers(0, 255, (height // 14, width // 14, 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(blocks.repeat(14, 0).repeat(14, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def small_recipe(model: Path, *overrides: str) -> Recipe:
    """Return the tiny recipe on `model`, without preflight and with further settings."""
    return load_recipe("tiny1", [f"models.base={model}", "threads=1", "rl.preflight=0", *overrides])


def kill_at_line(watched: Path, count: int, train: Callable, *arguments: object) -> None:
    """Train in a subprocess and SIGKILL it when a file has `count` lines."""
    log = watched.parent.with_suffix(".log")
    child = forks.start(train, *arguments, log=log)
    end = time.monotonic() + 600
    try:
        while child.exitcode is None:
            assert time.monotonic() < end, f"{watched} does not get {count} lines"
            if watched.is_file() and watched.read_text().count("\n") >= count:
                return
            time.sleep(0.01)
    finally:
        child.kill()
        child.join()
    raise AssertionError(f"it ended before it was killed: {log.read_text()}")


@contextmanager
def stopped_at_line(count: int) -> Iterator[None]:
    """Stop a training in this OS process, as Ctrl-C does, when its metrics have `count` lines."""
    from p2r.training.stage import StepLog

    write = StepLog.on_log

    def write_and_stop(self: StepLog, *arguments: object, **more: object) -> None:
        write(self, *arguments, **more)
        if self.path.is_file() and self.path.read_text().count("\n") >= count:
            raise KeyboardInterrupt

    with mock.patch.object(StepLog, "on_log", write_and_stop), pytest.raises(KeyboardInterrupt):
        yield


def read_lines(path: Path) -> list[dict]:
    """Return the records of a JSON lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
