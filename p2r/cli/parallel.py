"""`--parallel N`: runs a command as N subprocesses, each with its part of questions and GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Annotated

import typer

from p2r.errors import UserError
from p2r.files.bars import line_of

# The arguments of the running command.
ARGUMENTS: ContextVar[list[str]] = ContextVar("ARGUMENTS")
OPTION = "--parallel"

ParallelOption = Annotated[
    int | None,
    typer.Option(
        OPTION,
        metavar="N",
        min=2,
        help="Answer in N subprocesses at once, each with its part of the questions (--shard) and "
        "of the GPUs.",
    ),
]


def run_parts(count: int | None, shard: str | None, ray: bool) -> None:
    """Run the command in `count` subprocesses and wait for all (None: do nothing).

    Raises `UserError` if a part fails; the same command then continues.
    """
    if count is None:
        return
    if shard is not None or ray:
        raise UserError(f"{OPTION} divides the questions itself: leave out --shard and --ray")
    command = [sys.executable, "-m", "p2r", *without_option(ARGUMENTS.get())]
    children = [
        start([*command, "--shard", f"{part}/{count}"], more | line_of(part))
        for part, more in enumerate(divide_machine(count, os.environ))
    ]
    try:
        codes = [child.wait() for child in children]
    except BaseException:  # for example Ctrl-C, which a terminal also sends to the subprocesses
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
        raise
    if failed := [f"{part}/{count}" for part, code in enumerate(codes) if code]:
        raise UserError(
            f"part {', '.join(failed)} failed, see above; the same command continues the rest"
        )


def start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a part. Show its progress and errors, but not its results."""
    nothing = subprocess.DEVNULL
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stdin=nothing, stdout=nothing
    )


def without_option(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command without `--parallel N`."""
    left: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == OPTION:
            next(waiting, None)
        elif not argument.startswith(f"{OPTION}="):
            left.append(argument)
    return left


def divide_machine(count: int, environ: Mapping[str, str]) -> list[dict[str, str]]:
    """Return environment variables that give each of `count` parts its GPUs, or else its cores.

    Raises `UserError` if there are fewer GPUs than parts.
    """
    from p2r.runs.software import visible_gpus

    devices = visible_gpus(environ)
    if not devices:
        threads = environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
        return [{"OMP_NUM_THREADS": threads}] * count
    each = len(devices) // count
    if not each:
        raise UserError(
            f"{OPTION} {count} needs {count} GPUs, but there are {len(devices)}: give a smaller N"
        )
    return [
        {"CUDA_VISIBLE_DEVICES": ",".join(devices[part * each : (part + 1) * each])}
        for part in range(count)
    ]
