"""Reads Message Batches from the server: their state, the list, their results.

A batch that the server does not find may still run and be charged. So "not found" (HTTP 404) is
handled like an outage until the lease of the batch ends: p2r looks for the batch in the server's
list, waits, and asks again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import anthropic

from p2r.errors import JudgeError

log = logging.getLogger(__name__)

# Seconds. A batch expires after 1 day; its results stay on the server for 29 days.
LEASE = 29 * 86400.0
# Seconds that the server's clock may differ from ours.
SKEW = 600.0
# Give up after this many failed polls in a row.
PATIENCE = 60
# If results are missing, read them again this many times.
REREAD = 3
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2")


class BatchServer:
    """The batches of a client. `poll`: seconds between two status requests for a batch."""

    def __init__(self, client: anthropic.AsyncAnthropic, poll: float) -> None:
        self.api = client.messages.batches
        # Creating is repeated by the caller, because the client cannot know if a batch arrived.
        self.create = client.with_options(max_retries=0).messages.batches.create
        self.poll = poll

    async def listed_since(self, made: float) -> AsyncIterator[Any]:
        """Yield the batches that were created after a time (seconds), the newest first."""
        earliest = datetime.fromtimestamp(max(0.0, made - SKEW), UTC)
        async for listed in self.api.list(limit=100):
            if listed.created_at < earliest:
                return
            yield listed

    async def results(self, batch_id: str, made: float) -> list[Any] | None:
        """Wait until a batch ends, also through outages, and return its results.

        Return None if the results are gone: the server has archived the batch, or its lease is
        over. Raises `LookupError` if the server did not find the batch in many polls, and
        `JudgeError` after a long outage.
        """
        failures = reread = 0
        while True:
            try:
                batch = await self._describe(batch_id, made)
                if batch.processing_status != "ended":
                    failures = 0
                elif batch.results_url:
                    results = [result async for result in await self.api.results(batch_id)]
                    if len(results) >= count_requests(batch) or reread == REREAD:
                        return results
                    reread += 1
                    log.warning("batch %s: results are missing, reading again", batch_id)
                elif getattr(batch, "archived_at", None):
                    return None
                else:
                    raise LookupError
            except (anthropic.NotFoundError, LookupError):
                if time.time() > made + LEASE:
                    return None
                failures += 1
                if failures > PATIENCE:
                    raise LookupError(_describe_missing(batch_id, made)) from None
                log.warning("batch %s: not found, next try in %g s", batch_id, self.poll)
            except Exception as error:
                if not _is_outage(error):
                    raise
                failures += 1
                self.note_failure(failures, error)
            await asyncio.sleep(self.poll)

    async def _describe(self, batch_id: str, made: float) -> Any:
        """Return the state of a batch; if the server does not find it, from the list."""
        try:
            return await self.api.retrieve(batch_id)
        except anthropic.NotFoundError:
            async for listed in self.listed_since(made):
                if listed.id == batch_id:
                    return listed
            raise

    def note_failure(self, failures: int, error: Exception) -> None:
        """Log a failure of the server; raise if there were too many, or if a retry cannot help."""
        if failures > PATIENCE or isinstance(
            error, anthropic.AuthenticationError | anthropic.PermissionDeniedError
        ):
            raise JudgeError(
                f"the server does not return the batches ({type(error).__name__}): nothing is "
                "lost, run the same command again later"
            ) from error
        log.warning("batches: %s, next try in %g s", type(error).__name__, self.poll)


def count_requests(batch: Any) -> int:
    """Return the number of requests of a batch on the server."""
    return sum(getattr(batch.request_counts, part) for part in _COUNTS)


def _is_outage(error: Exception) -> bool:
    # A connection that breaks within the results raises an error of the client's HTTP library.
    transport = type(error).__module__.partition(".")[0] in _TRANSPORTS
    return transport or isinstance(error, anthropic.AnthropicError | ValueError)


def _describe_missing(batch_id: str, made: float) -> str:
    until = datetime.fromtimestamp(made + LEASE, UTC).date()
    return (
        f"the server does not find batch {batch_id} (HTTP 404), but its requests may be charged, "
        f"so they are not sent again before {until}: use the API key that sent the batch and run "
        "the same command again later, or set judging.cache to another file to pay again"
    )
