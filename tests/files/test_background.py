"""The background event loop: callable from plain code, threads, other loops and forked children."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from p2r.files.background import awaitable, call, start, started_together


async def thread_name() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def test_all_callers_share_one_loop():
    async def elsewhere():
        return await awaitable(thread_name())

    with ThreadPoolExecutor(4) as pool:
        names = [*pool.map(lambda _: call(thread_name()), range(8))]
        names.append(pool.submit(asyncio.run, elsewhere()).result())
    assert set(names) == {"p2r event loop"} and start(thread_name()).result(10) in names


def test_errors_reach_the_caller_and_the_loop_goes_on():
    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        call(fail())
    assert call(thread_name())


def test_coroutines_of_a_block_end_with_it():
    ended = []

    async def work(seconds: float) -> str:
        try:
            await asyncio.sleep(seconds)
            return "done"
        finally:
            ended.append(seconds)

    with pytest.raises(RuntimeError), started_together() as begin:
        assert begin(work(0)).result(10) == "done"
        futures = [begin(work(60)), begin(work(61))]
        raise RuntimeError
    assert sorted(ended) == [0, 60, 61] and all(future.cancelled() for future in futures)
    assert call(thread_name()), "the loop itself goes on"


def test_a_forked_child_starts_its_own_loop():
    call(thread_name())
    child = os.fork()
    if not child:
        os._exit(0 if call(thread_name()) else 1)
    assert os.waitpid(child, 0)[1] == 0
