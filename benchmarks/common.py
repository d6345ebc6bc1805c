"""What several benchmarks need: a free port, and questions of the playground with their videos."""

from __future__ import annotations

import socket
from pathlib import Path

from p2r.formats import read_questions
from p2r.playground.splits import write_split
from p2r.records import Question


def free_port() -> int:
    """Return a port of this machine that no program uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def make_questions(folder: Path, split: str, count: int, generation: int = 1) -> list[Question]:
    """Write the first questions of a split and their videos into a folder; return them."""
    return [*read_questions(write_split(folder, split, count, generation=generation))]
