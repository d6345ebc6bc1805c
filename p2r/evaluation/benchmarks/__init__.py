"""The benchmarks, one file each. Every module in this folder is found and loaded by its name.

A module `NAME.py` defines `BENCHMARK`, a `p2r.evaluation.benchmark.Benchmark` called NAME. Nothing
else has to change when a module is added. `load_benchmark` also loads a Python file of a user.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from dataclasses import replace
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from p2r.errors import UserError

if TYPE_CHECKING:
    from p2r.evaluation.benchmark import Benchmark


OWN = "own:"


def benchmark_names() -> list[str]:
    """Return the names of the benchmarks in this folder, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


@cache
def all_benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark by its name."""
    modules = (importlib.import_module(f"{__name__}.{name}") for name in benchmark_names())
    return {module.BENCHMARK.name: module.BENCHMARK for module in modules}


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark with this name. Case, spaces and dashes in the name do not matter.

    "own:NAME" is a set of questions that p2r does not know. It keeps its name, and its answers are
    scored by problem type. Raises `UserError` for an unknown name.
    """
    if name.startswith(OWN):
        return _own_set(name.removeprefix(OWN))
    known = all_benchmarks()
    plain = name if name in known else "".join(filter(str.isalnum, name)).lower()
    if plain not in known:
        choices = ", ".join(known)
        raise UserError(
            f"no benchmark {name!r}: use one of {choices}, your own FILE.py, or own:NAME for "
            "questions that are scored by problem type"
        )
    return known[plain]


def _own_set(name: str) -> Benchmark:
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"{OWN}{name}: use letters, digits, ., - and _ in the name")
    return replace(
        built_in_benchmark(),
        name=f"{OWN}{name}",
        title=name,
        files="a file of questions",
        subset="all questions of the file",
        licence="of the set",
        download="none",
        built_in=False,
    )


def built_in_benchmark() -> Benchmark:
    """Return the benchmark whose questions p2r generates itself."""
    return next(benchmark for benchmark in all_benchmarks().values() if benchmark.built_in)


def load_benchmark(spec: str) -> Benchmark:
    """Return the benchmark with a name, or run a user's Python file and return its BENCHMARK.

    Call this only with what a user typed. A name in a result file must never run a file.
    """
    if not spec.endswith(".py"):
        return find_benchmark(spec)
    path, known = Path(spec), all_benchmarks()
    if not path.is_file():
        raise UserError(f"no file {path}: give the Python file that defines BENCHMARK")
    module = ModuleType(f"p2r_benchmark_{path.stem}")
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        SourceFileLoader(module.__name__, str(path)).exec_module(module)
    except Exception as error:
        raise UserError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    benchmark = getattr(module, "BENCHMARK", None)
    if benchmark is None:
        raise UserError(f"{path} defines no BENCHMARK: see p2r/evaluation/benchmarks for examples")
    if benchmark.name in benchmark_names():
        raise UserError(f"{path}: the name {benchmark.name!r} is taken: choose another name")
    known[benchmark.name] = benchmark
    return benchmark
