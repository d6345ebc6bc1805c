"""The judge of a run: with the run's limits, budget and ledger, also by batches.

A run has one ledger (`p2r.judges.ledger`). An id in the run folder names the ledger, so that the
budget applies to all stages of the run, however often they start.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from p2r.errors import JudgeError
from p2r.files.background import call
from p2r.judges.base import BaseJudge
from p2r.judges.database import Database, default_path
from p2r.judges.ledger import Ledger, Spending
from p2r.judges.make import make_judge
from p2r.records import Question
from p2r.runs import Run, kept_root, write_text


def run_judge(run: Run, spec: Any, data_root: Path | None = None) -> BaseJudge:
    """Make the judge of a spec, with the limits, the budget and the ledger of a run.

    `data_root`: the media folder, for judges that see frames (default: the run's).
    """
    root = data_root or kept_root(run.folder)
    return make_judge(spec, run.recipe.judging, run=books_of(run), data_root=root)


def books_of(run: Run) -> str:
    """Return the name of a run's ledger; it is random, so that no two runs share a ledger."""
    path = run.path("ledger.id")
    if not path.is_file():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(f"{run.name}-{secrets.token_hex(8)}\n", encoding="utf-8")
        # Several training processes may start at the same time: the first one sets the name.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
    return path.read_text(encoding="utf-8").strip()


def share_books(run: Run, main: Run) -> None:
    """Let a run use the ledger of another one, unless it has its own: they share one budget."""
    path = run.path("ledger.id")
    if not path.is_file():
        write_text(path, f"{books_of(main)}\n")


def spending(run: Run) -> list[Spending]:
    """Return what a run spent on judges, one row per judge and outcome; make no file."""
    path = run.recipe.judging.cache or default_path()
    if not ((run.folder / "ledger.id").is_file() and Path(path).expanduser().is_file()):
        return []
    return Ledger(Database(run.recipe.judging.cache), books_of(run)).summary()


def judge_in_batches(
    judge: BaseJudge, pairs: Iterable[tuple[Question, str]], settings: Any
) -> BaseJudge:
    """Judge all pairs by Message Batches, and return a judge that answers from the results.

    All batches run at the same time. `pairs` is iterated more than once, because expired requests
    go into another batch. Raises `JudgeError` for a judge without batches.
    """
    from p2r.judges.batches import BatchJudge
    from p2r.judges.kinds.claude import ClaudeJudge

    if not (isinstance(judge, ClaudeJudge) and judge.has_batches):
        raise JudgeError(
            f"judge {judge.name!r} has no batches: leave out --batch, or set filter.judge=claude"
        )
    batches = BatchJudge(judge, settings.batch_size, settings.batch_poll)
    sent = 1
    while sent:
        left, sent = iter(pairs), 0
        while part := list(islice(left, settings.batch_size)):
            sent += call(batches.submit(*zip(*part, strict=True)))
        call(batches.collect())
    return batches
