"""The one event loop for asynchronous work. It runs in a background thread.

Plain code, threads and code inside another loop (a notebook's) can all use it. They share one set
of connections.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
Start = Callable[[Coroutine[Any, Any, T]], "Future[T]"]

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_owner = 0


def start(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine on the background loop."""
    return asyncio.run_coroutine_threadsafe(work, _running_loop())


def call(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop and wait for its result; an interrupt cancels it."""
    future = start(work)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def awaitable(work: Coroutine[Any, Any, T]) -> Awaitable[T]:
    """Return an awaitable, for any loop, of a coroutine that runs on the background loop."""

    async def wait() -> T:
        return await asyncio.wrap_future(start(work))

    return wait()


@contextmanager
def started_together() -> Iterator[Start]:
    """Yield a `start` whose coroutines end with the block: those still running are cancelled."""
    tasks: set[asyncio.Task[Any]] = set()

    async def tracked(work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None  # a coroutine runs in a task
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return await work

    async def finish() -> None:
        rest = list(tasks)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    try:
        yield lambda work: start(tracked(work))
    finally:
        call(finish())


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop, _owner
    with _lock:
        # A forked child inherits the loop object without its thread, so it starts a new loop.
        if _loop is None or _owner != os.getpid():
            _loop, _owner = asyncio.new_event_loop(), os.getpid()
            threading.Thread(target=_loop.run_forever, name="p2r event loop", daemon=True).start()
        return _loop
