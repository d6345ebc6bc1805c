"""Lets an LLM read the items of a result file, and stores its replies with the items.

The reader is any model that a judge's server offers. It names the option that each think segment
concludes with (`p2r.evaluation.mismatch`). It also rates the items that no rule can score, if the
benchmark has such items (`Benchmark.rate`). Scoring again needs no further requests. Replies are
cached and booked in the ledger like a judge's verdicts.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2r.errors import JudgeError
from p2r.evaluation.benchmark import Item
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.metrics import Clips
from p2r.evaluation.mismatch import Chooser, ask_reader, mismatch_rate, mismatches
from p2r.evaluation.results import Result, case_of, write_result
from p2r.files.background import call
from p2r.judges import BaseJudge, make_judge
from p2r.judges.remote import RemoteJudge
from p2r.runs.recipe import JudgingSettings, load_recipe

CHOICE = "think choice"


class Reader:
    """A function from prompts to replies (None: no reply).

    Raises `JudgeError` if the budget is spent. Replies that were paid for are then in the cache.
    """

    def __init__(self, judge: BaseJudge) -> None:
        if not isinstance(judge, RemoteJudge):
            raise JudgeError(
                f"judge {judge.name} cannot answer a prompt: use claude, "
                "server:URL#MODEL or messages:URL#MODEL"
            )
        self.judge = judge
        self.name = judge.name
        self.asked = self.replied = 0

    def __call__(self, prompts: Sequence[str]) -> list[str | None]:
        self._check_budget(prompts)
        replies = call(self._read(list(dict.fromkeys(prompts))))
        self.asked += len(replies)
        self.replied += sum(reply is not None for reply in replies.values())
        return [replies[prompt] for prompt in prompts]

    async def _read(self, prompts: Sequence[str]) -> dict[str, str | None]:
        found = await asyncio.gather(*map(self.judge.reply, prompts), return_exceptions=True)
        replies: dict[str, str | None] = {}
        for prompt, reply in zip(prompts, found, strict=True):
            if isinstance(reply, BaseException):
                raise reply
            replies[prompt] = reply.rationale if reply.sufficient else None
        return replies

    def _check_budget(self, prompts: Sequence[str]) -> None:
        """Raise `JudgeError` if the requests cost money and there is no budget."""
        worst = sum(map(self.judge.worst, set(prompts)))
        ledger = self.judge.ledger
        if worst and (ledger is None or ledger.budget is None):
            raise JudgeError(
                f"{len(set(prompts))} requests to {self.name} may cost ${worst:.2f}, and no limit "
                "is set: set a limit with --budget"
            )


def make_reader(spec: str, settings: JudgingSettings, result_file: Path) -> Reader:
    """Return the reader for a judge's spec. Raises `JudgeError` if it cannot be used.

    Each result file has its own ledger, so a budget covers all calls of the command.
    """
    place = hashlib.sha256(str(result_file.resolve()).encode()).hexdigest()[:16]
    return Reader(make_judge(spec, settings, run=f"{result_file.name}-{place}"))


def read_file_with(
    spec: str, result: Result, file: Path, budget: float | None, settings: Sequence[str] = ()
) -> tuple[Reader, dict[str, Any]]:
    """Let the reader of a judge's spec read a result, and write the result to a file.

    `budget`: US dollars over all calls about this file. `settings`: overrides of the recipe's
    section `judging`. Returns the reader and the findings of `read_result_with`.
    """
    limit = [] if budget is None else [f"judging.budget={budget}"]
    reader = make_reader(spec, load_recipe("tiny", [*settings, *limit]).judging, file)
    found = read_result_with(result, reader)
    write_result(result, file)
    return reader, found


def read_result_with(result: Result, reader: Reader) -> dict[str, Any]:
    """Let a reader read the items of a result, and store its replies with them.

    Returns "ratings" (counts, if the benchmark has `rate`) and "mismatch" (if items have thinking).
    """
    result.made["reader"] = reader.name
    found: dict[str, Any] = {}
    if rate := find_benchmark(result.benchmark).rate:
        found["ratings"] = rate(result.items, reader)
    _store_choices(result.items, ask_reader(reader))
    if (share := mismatch_by_reader(result.items)) is not None:
        found["mismatch"] = share
    return found


def _store_choices(items: Sequence[Item], choose: Chooser) -> None:
    asked = [
        (item, case)
        for item in items
        if (case := case_of(item)).trace.think
        and item.problem_type == "multiple choice"
        and item.options
    ]
    thinking = [case.trace.think or "" for _, case in asked]
    said = choose([case.question for _, case in asked], thinking) if asked else []
    for (item, _), choice in zip(asked, said, strict=True):
        item.stored.pop(CHOICE, None)
        if choice is not None:
            item.stored[CHOICE] = choice


def mismatch_by_reader(items: Sequence[Item]) -> dict[str, Any] | None:
    """Return the rate of mismatches by the stored replies, or None if there are none."""
    read = [item for item in items if CHOICE in item.stored]
    if not read:
        return None
    choices = {(item.id, item.problem): item.stored[CHOICE] for item in read}
    stored: Chooser = lambda asked, thinking: [choices[q.id, q.problem] for q in asked]  # noqa: E731
    return mismatch_rate(mismatches([case_of(item) for item in read], stored), Clips.of(read))
