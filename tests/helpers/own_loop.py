"""Runs a coroutine in an event loop of its own, also beside the browser tests' loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run_async(work: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine.

    It runs in another thread: after a browser test, the main thread of a test worker has a running
    loop.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
