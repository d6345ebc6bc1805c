"""Subprocesses that start with torch, transformers, TRL and p2r imported.

These imports take 6 s of CPU time. Python's fork server makes them once for each worker of
pytest-xdist, and every subprocess that is started here is a fork of that server.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock


@cache
def server() -> BaseContext:
    """Return the context of the server. Windows has none, so it is made at its first use."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fork_imports"])
    return context


def start(
    work: Callable[..., object],
    *arguments: object,
    log: str | Path = os.devnull,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Call `work` in a subprocess, with more environment variables. Its output goes to `log`."""
    changed = {**os.environ, **(environment or {})}
    process = server().Process(target=_work, args=(work, arguments, str(log), changed))
    process.start()
    return process


def script(file: Path, *arguments: str, log: Path) -> int | None:
    """Run a script in a subprocess. Return its exit code. Its output goes to `log`."""
    process = start(_script, str(file), arguments, log=log)
    process.join(800)
    process.kill()
    return process.exitcode


def _script(file: str, arguments: tuple[str, ...]) -> None:
    sys.argv = [file, *arguments]
    sys.path.insert(0, str(Path(file).parent))
    runpy.run_path(file, run_name="__main__")


def forget(*packages: str) -> None:
    """Let the next import of a package in this subprocess be like the first one."""
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]


@contextmanager
def instead_of_spawn() -> Iterator[None]:
    """Let `multiprocessing` fork the server where p2r asks for a new interpreter."""
    usual = multiprocessing.get_context

    def get_context(method: str | None = None) -> BaseContext:
        return server() if method == "spawn" else usual(method)

    with mock.patch.object(multiprocessing, "get_context", get_context):
        yield


def _work(
    work: Callable[..., object], arguments: tuple, log: str, environment: dict[str, str]
) -> None:
    os.environ.clear()  # the environment of the server may be an older one
    os.environ.update(environment)
    with open(log, "a") as file:
        for output in (1, 2):
            os.dup2(file.fileno(), output)
    work(*arguments)
