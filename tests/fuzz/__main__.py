"""Fuzzes every reader in turn until the time is over, and prints each failure once.

    python tests/fuzz --minutes 10

Exits with 1 if a reader failed. Turn each printed example into a test of its reader.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from hypothesis import HealthCheck, given, seed, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from targets import TARGETS  # noqa: E402


def main() -> int:
    """Fuzz for the given minutes and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--examples", type=int, default=300, help="examples per target and round")
    parser.add_argument("--only", choices=TARGETS, help="fuzz only this target")
    given_arguments = parser.parse_args()
    end = time.monotonic() + 60 * given_arguments.minutes
    names = [given_arguments.only] if given_arguments.only else list(TARGETS)
    failures: dict[str, str] = {}
    tried = dict.fromkeys(names, 0)
    while time.monotonic() < end:
        for name in names:
            if time.monotonic() >= end:
                break
            target, strategies = TARGETS[name]
            tried[name] += _round(name, target, strategies, given_arguments.examples, failures)
    print(", ".join(f"{name}: {count}" for name, count in tried.items()), "examples")
    print(f"{len(failures)} failures")
    return int(bool(failures))


def _round(name, target, strategies, examples: int, failures: dict[str, str]) -> int:
    """Try new examples of a target and print a failure at a place that was not seen before."""
    count = 0

    def counted(values: tuple[object, ...]) -> None:
        nonlocal count
        count += 1
        target(*values)

    run = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )(seed(random.randrange(2**32))(given(st.tuples(*strategies))(counted)))
    try:
        run()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{name} {type(error).__name__} {frame.filename}:{frame.lineno}"
        if where not in failures:
            failures[where] = str(error)
            notes = "\n".join(getattr(error, "__notes__", []))
            print(f"{where}\n{error}\n{notes}\n", flush=True)
    return count


if __name__ == "__main__":
    sys.exit(main())
