"""Subprocess workers: messages, time limits, crashes, errors, forks and the end of the parent."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from p2r.errors import EngineDied
from p2r.workers import Worker, WorkerFailed, WorkerPool

TARGET = "test_workers:start"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Workers import what their parent can import, so they find this file."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def start():
    """The target: a worker does what the header says."""

    def answer(header, body, say):
        task = header["do"]
        if task == "double":
            return {"said": header.get("said")}, (np.asarray(body) * 2).astype(np.uint8)
        if task == "progress":
            for number in range(3):
                say({"number": number})
        if task == "print and crash":
            print("something is wrong", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "hang":
            time.sleep(600)
        if task == "raise":
            raise ValueError("a bad\nmessage")
        if task == "die":
            raise EngineDied("out of memory")
        return {"pid": os.getpid(), "path": sys.path}, b""

    return answer


@pytest.fixture
def worker():
    worker = Worker(TARGET, keep_output=True)
    yield worker
    worker.close()


def test_headers_and_bodies_go_both_ways(worker):
    body = np.arange(1_000_000, dtype=np.uint8)
    header, found = worker.ask({"do": "double", "said": "é"}, body)
    assert header["said"] == "é" and np.array_equal(found, body * 2)
    assert worker.ask({"do": "pid"})[1].size == 0


def test_one_worker_answers_many_messages_and_reports_progress(worker):
    heard = []
    pids = {worker.ask({"do": "progress"}, on_progress=heard.append)[0]["pid"] for _ in range(2)}
    assert pids == {worker.process.pid} and heard == [{"number": n} for n in range(3)] * 2


def test_a_worker_imports_what_its_parent_imports(worker):
    found = worker.ask({"do": "path"})[0]["path"]
    assert found[-len(sys.path) :] == json.loads(json.dumps(sys.path))


def test_a_crash_has_its_signal_and_the_last_line_of_output(worker):
    with pytest.raises(WorkerFailed, match="Killed; something is wrong") as failed:
        worker.ask({"do": "print and crash"})
    assert failed.value.kind == "crash" and not worker.alive


def test_a_hang_ends_at_the_time_limit(worker):
    begun = time.monotonic()
    with pytest.raises(WorkerFailed, match=r"no answer within 0\.5 s") as failed:
        worker.ask({"do": "hang"}, limit=0.5)
    assert failed.value.kind == "late" and time.monotonic() - begun < 60
    assert worker.process.poll() is not None


@pytest.mark.parametrize(
    ("task", "said", "kind"),
    [("raise", "ValueError: a bad message", "error"), ("die", "EngineDied: out of memory", "died")],
)
def test_an_exception_is_one_line_and_ends_the_worker(worker, task, said, kind):
    with pytest.raises(WorkerFailed, match=said) as failed:
        worker.ask({"do": task})
    assert failed.value.kind == kind and not worker.alive


def test_a_target_that_cannot_be_imported_is_a_crash():
    with pytest.raises(WorkerFailed, match=r"exit status 1; .*no_such_module"):
        Worker("no_such_module:start", keep_output=True)


@pytest.mark.slow
def test_a_fork_does_not_use_or_end_the_workers_of_its_parent():
    pool = WorkerPool(TARGET, 2)
    parent = pool.ask({"do": "pid"}, 30)[0]["pid"]
    child = os.fork()
    if child == 0:
        found = pool.ask({"do": "pid"}, 30)[0]["pid"]
        pool.close()
        os._exit(0 if found != parent else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert pool.ask({"do": "pid"}, 30)[0]["pid"] == parent
    pool.close()


@pytest.mark.slow
def test_a_worker_that_hangs_ends_with_its_parent():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        worker = Worker(TARGET, keep_output=True)
        os.write(write, f"{worker.process.pid}\n".encode())
        worker.ask({"do": "hang"})
    with os.fdopen(read) as file:
        pid = int(file.readline())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    end = time.monotonic() + 60
    while time.monotonic() < end and _runs(pid):
        time.sleep(0.1)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
