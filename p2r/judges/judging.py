"""Judging a run: its judge with its own books, a filter by batches, and what it will cost.

A run has one set of books (`p2r.judges.ledger`), named by an id in its folder, so that its budget
holds over all its stages and however often they are started.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from p2r.errors import JudgeError
from p2r.judges import BaseJudge, make_judge
from p2r.judges.base import call
from p2r.judges.database import Database, default_path
from p2r.judges.ledger import Ledger, Spending
from p2r.judges.prices import Usage
from p2r.judges.prompt import build_judge_prompt
from p2r.judges.remote import RemoteJudge
from p2r.records import Question
from p2r.runs import Run

# Characters of a token, where the server cannot be asked to count.
CHARACTERS_PER_TOKEN = 3.5
# Tokens of a verdict with its three sentences, before there is any to measure.
USUAL_REPLY = 120

Pair = tuple[Question, str]


def run_judge(run: Run, spec: Any) -> BaseJudge:
    """The judge of a spec, with the limits, the budget and the books of a run."""
    return make_judge(spec, run.recipe.judging, run=books_of(run))


def books_of(run: Run) -> str:
    """The name of a run's books: random, so that no other run's are ever taken for them."""
    path = run.path("ledger.id")
    if not path.is_file():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(f"{run.name}-{secrets.token_hex(8)}\n", encoding="utf-8")
        # Processes that train together begin at once: the first one's name holds.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        temporary.unlink()
    return path.read_text(encoding="utf-8").strip()


def spending(run: Run) -> list[Spending]:
    """What a run has spent on judges so far, a row per judge and outcome; makes no file."""
    path = run.recipe.judging.cache or default_path()
    if not ((run.folder / "ledger.id").is_file() and Path(path).expanduser().is_file()):
        return []
    return Ledger(Database(run.recipe.judging.cache), books_of(run)).summary()


def judge_in_batches(judge: BaseJudge, pairs: Iterable[Pair], settings: Any) -> BaseJudge:
    """Judge everything by Message Batches, as many at once as there are, and return a judge that
    answers from the results.

    `pairs` can be gone through again: what expired goes into another batch. Raises `JudgeError` for
    a judge that has no batches.
    """
    from p2r.judges.batches import BatchJudge
    from p2r.judges.claude import ClaudeJudge

    if not isinstance(judge, ClaudeJudge):
        raise JudgeError(f"judge {judge.name!r} has no batches: leave out --batch, or judge=claude")
    batches = BatchJudge(judge, settings.batch_size, settings.batch_poll)
    while sum(call(batches.submit(*_columns(part))) for part in _parts(pairs, settings.batch_size)):
        call(batches.collect())
    return batches


@dataclass(frozen=True)
class Estimate:
    """What one judge will cost, in US dollars; None where its model has no known price.

    `observations` are those to judge, of which `known` are in the cache already. Tokens are means
    of one call, from a sample of `sample`; `counted`: the server counted them, else they are
    reckoned from characters. `measured`: the reply's tokens are the mean of earlier calls, else a
    usual length. `worst` is what the online run can cost at most; `batch` is None where there are
    no batches.
    """

    judge: str
    observations: int
    known: int
    sample: int
    input_tokens: float
    output_tokens: float
    counted: bool
    measured: bool
    online: float | None
    batch: float | None
    worst: float | None
    spent: float


def estimate(judge: BaseJudge, pairs: Iterable[Pair], sample: int = 200) -> list[Estimate]:
    """Price a run from a sample, without one call that costs anything.

    An estimate for each judge behind a server, of a panel for each of its members; none where
    nobody is asked who could charge. `pairs` can be gone through again.
    """
    parts = [part for part in judge.parts() if isinstance(part, RemoteJudge)]
    found = [
        _estimate(part, pairs, sample) for part in {part.identity: part for part in parts}.values()
    ]
    whole = isinstance(judge, RemoteJudge)
    return found if whole else [replace(each, batch=None) for each in found]


def _estimate(judge: RemoteJudge, pairs: Iterable[Pair], sample: int, seed: int = 0) -> Estimate:
    draw = random.Random(seed)
    seen: set[bytes] = set()
    drawn: list[str] = []
    known, worst = 0, 0.0
    for part in _parts(pairs, 1000):
        keys = [judge.key(*pair) for pair in part]
        found = judge.cache.get_many(keys) if judge.cache else {}
        for key, pair in zip(keys, part, strict=True):
            short = bytes.fromhex(key.rpartition("/")[2])
            if short in seen:
                continue
            seen.add(short)
            if key in found:
                known += 1
                continue
            prompt = build_judge_prompt(*pair)
            worst += judge.worst(prompt)
            _draw(draw, drawn, prompt, sample, len(seen) - known)
    counts, counted = call(_count_tokens(judge, drawn))
    mean_input = sum(counts) / len(counts) if counts else 0.0
    measured = judge.ledger.mean_output(judge.name) if judge.ledger else None
    mean_output = float(USUAL_REPLY) if measured is None else measured
    new = len(seen) - known
    price = judge.price
    usage = Usage(round(new * mean_input), round(new * mean_output))
    return Estimate(
        judge=judge.name,
        observations=len(seen),
        known=known,
        sample=len(drawn),
        input_tokens=mean_input,
        output_tokens=mean_output,
        counted=counted,
        measured=measured is not None,
        online=price.cost(usage) if price else None,
        batch=price.cost(usage, batch=True) if price and hasattr(judge, "count_tokens") else None,
        worst=worst if price else None,
        spent=judge.ledger.spent() if judge.ledger else 0.0,
    )


def _draw(draw: random.Random, drawn: list[str], item: str, size: int, number: int) -> None:
    """Reservoir sampling: the `number`th item joins a sample that stays fair."""
    if len(drawn) < size:
        drawn.append(item)
    elif (place := draw.randrange(number)) < size:
        drawn[place] = item


async def _count_tokens(judge: RemoteJudge, prompts: list[str]) -> tuple[list[float], bool]:
    """Input tokens of each prompt, and whether the server counted them."""
    reckoned = [len(judge.guidance + prompt) / CHARACTERS_PER_TOKEN for prompt in prompts]
    count = getattr(judge, "count_tokens", None)
    # One is tried before the rest, so that a server that cannot count is asked once.
    if not prompts or count is None or await count(prompts[0]) is None:
        return reckoned, False
    slots = asyncio.Semaphore(8)

    async def counted(prompt: str) -> int | None:
        async with slots:
            return await count(prompt)

    found = await asyncio.gather(*map(counted, prompts))
    return [r if f is None else f for r, f in zip(reckoned, found, strict=True)], True


def _parts(pairs: Iterable[Pair], size: int) -> Iterator[list[Pair]]:
    iterator = iter(pairs)
    while part := list(itertools.islice(iterator, size)):
        yield part


def _columns(pairs: list[Pair]) -> tuple[list[Question], list[str]]:
    return [question for question, _ in pairs], [observation for _, observation in pairs]
