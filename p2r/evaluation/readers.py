"""What a reader adds to a result file: any model behind a judge's server, asked in words.

It reads the think segments for the option they conclude with (`p2r.evaluation.mismatch`), and for
TempCompass it rates what no rule matched (`p2r.evaluation.tempcompass_llm`). Its words are stored
with the items, so that scoring again costs nothing; every reply is remembered and booked as a
judge's verdicts are.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2r.errors import JudgeError
from p2r.evaluation.items import Item
from p2r.evaluation.mismatch import Chooser, ask_reader, mismatch_rate, mismatches
from p2r.evaluation.results import Result, case_of
from p2r.evaluation.tempcompass_llm import rate_unmatched
from p2r.files.background import call
from p2r.judges import BaseJudge, make_judge
from p2r.judges.remote import RemoteJudge
from p2r.runs.recipe import JudgingSettings

CHOICE = "think choice"


class Reader:
    """A function from prompts to replies, None for what got none; raises `JudgeError` where the
    budget has no room, and then no reply that was paid for is lost: the cache has it.
    """

    def __init__(self, judge: BaseJudge) -> None:
        if not isinstance(judge, RemoteJudge):
            raise JudgeError(
                f"{judge.name} judges and cannot be asked in words: read with claude, "
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
        for reply in found:
            if isinstance(reply, BaseException):
                raise reply
        return {
            prompt: reply.rationale if reply.sufficient else None
            for prompt, reply in zip(prompts, found, strict=True)
        }

    def _check_budget(self, prompts: Sequence[str]) -> None:
        """What costs money is not asked without a limit."""
        worst = sum(map(self.judge.worst, set(prompts)))
        ledger = self.judge.ledger
        if worst and (ledger is None or ledger.budget is None):
            raise JudgeError(
                f"{self.name} would be asked {len(set(prompts))} times, for at most ${worst:.2f}: "
                "give a limit with --budget"
            )


def make_reader(spec: str, settings: JudgingSettings, result_file: Path) -> Reader:
    """The reader of a judge's spec; a result file has books of its own, so that a budget holds
    however often the command is started. Raises `JudgeError`.
    """
    place = hashlib.sha256(str(result_file.resolve()).encode()).hexdigest()[:16]
    return Reader(make_judge(spec, settings, run=f"{result_file.name}-{place}"))


def read_result_with(result: Result, reader: Reader) -> dict[str, Any]:
    """Ask what can be asked of a result and store it with the items; returns what was found:
    "ratings" (counts, TempCompass) and "mismatch" (where there is thinking to read).
    """
    result.made["reader"] = reader.name
    found: dict[str, Any] = {}
    if result.benchmark == "tempcompass":
        found["ratings"] = rate_unmatched(result.items, reader)
    _store_choices(result.items, ask_reader(reader))
    if (rate := mismatch_by_reader(result.items)) is not None:
        found["mismatch"] = rate
    return found


def _store_choices(items: Sequence[Item], choose: Chooser) -> None:
    cases = {item.id: case_of(item) for item in items}
    asked = [
        item
        for item in items
        if cases[item.id].trace.think and item.problem_type == "multiple choice" and item.options
    ]
    thinking = [cases[item.id].trace.think or "" for item in asked]
    said = choose([cases[item.id].question for item in asked], thinking) if asked else []
    for item, choice in zip(asked, said, strict=True):
        item.stored.pop(CHOICE, None)
        if choice is not None:
            item.stored[CHOICE] = choice


def mismatch_by_reader(items: Sequence[Item]) -> dict[str, Any] | None:
    """The rate of mismatches by what a reader said of the items; None where none was read."""
    read = [item for item in items if CHOICE in item.stored]
    if not read:
        return None
    choices = {item.id: item.stored[CHOICE] for item in read}
    stored: Chooser = lambda questions, thinking: [choices[q.id] for q in questions]  # noqa: E731
    return mismatch_rate(mismatches([case_of(item) for item in read], stored))
