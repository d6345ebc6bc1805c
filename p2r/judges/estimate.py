"""Estimate what judging will cost, from a sample, before any money is spent."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

from p2r.errors import MediaError, VideoError
from p2r.files.background import call
from p2r.judges.base import BaseJudge
from p2r.judges.pictures import pictures_of
from p2r.judges.prices import Usage
from p2r.judges.remote import RemoteJudge
from p2r.records import Question

# Characters per token, if the server cannot count tokens.
CHARACTERS_PER_TOKEN = 3.5
# Tokens of a verdict with its three sentences, before any was measured.
USUAL_REPLY = 120
_CHUNK = 1000

Pair = tuple[Question, str]


@dataclass(frozen=True)
class Estimate:
    """The cost of one judge in US dollars; None if its model has no known price.

    `known` of the `observations` are in the cache already. Tokens are means per call over `sample`
    prompts. `counted`: the server counted them; otherwise they are estimated from characters.
    `measured`: the reply's tokens are the mean of earlier calls; otherwise a usual length.
    `worst` is the highest possible cost of the online run. `batch` is None if the judge has no
    batches.
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
    """Estimate the cost of judging from a sample; make no call that costs money.

    Returns one estimate for each judge behind a server, also for each one in a panel. Free judges
    have none. `pairs` is iterated once for each judge.
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
    left = iter(pairs)
    while part := list(islice(left, _CHUNK)):
        part, keys = _keyed(judge, part)
        found = judge.cache.get_many(keys) if judge.cache else {}
        for key, pair in zip(keys, part, strict=True):
            short = bytes.fromhex(key.rpartition("/")[2])
            if short in seen:
                continue
            seen.add(short)
            if key in found:
                known += 1
                continue
            prompt = judge.prompt(*pair)
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
        batch=price.cost(usage, batch=True) if price and judge.has_batches else None,
        worst=worst if price else None,
        spent=judge.ledger.spent() if judge.ledger else 0.0,
    )


def _keyed(judge: RemoteJudge, part: list[Pair]) -> tuple[list[Pair], list[str]]:
    """Return the pairs that can be asked, and their keys. Unreadable frames are never sent."""
    asked, keys = [], []
    for pair in part:
        with contextlib.suppress(MediaError, VideoError):
            keys.append(judge.key(*pair))
            asked.append(pair)
    return asked, keys


def _draw(draw: random.Random, drawn: list[str], item: str, size: int, number: int) -> None:
    """Add item `number` of a stream to a uniform sample (reservoir sampling)."""
    if len(drawn) < size:
        drawn.append(item)
    elif (place := draw.randrange(number)) < size:
        drawn[place] = item


async def _count_tokens(judge: RemoteJudge, prompts: list[str]) -> tuple[list[float], bool]:
    """Return the input tokens of each prompt, and whether the server counted them."""
    estimated = [
        len(judge.guidance + prompt) / CHARACTERS_PER_TOKEN
        + sum(picture.tokens for picture in pictures_of(prompt))
        for prompt in prompts
    ]
    count = getattr(judge, "count_tokens", None)
    # One prompt goes first, so that a server that cannot count gets one request only.
    if not prompts or count is None or await count(prompts[0]) is None:
        return estimated, False
    slots = asyncio.Semaphore(8)

    async def counted(prompt: str) -> int | None:
        async with slots:
            return await count(prompt)

    found = await asyncio.gather(*map(counted, prompts))
    return [e if f is None else f for e, f in zip(estimated, found, strict=True)], True
