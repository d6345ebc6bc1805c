"""Let the Python subprocesses of the tests start faster. Python runs this file at its start.

The import of torch, transformers and TRL takes 8 s of CPU time. Two things are a third of it:

- The garbage collector runs often during imports and finds nothing. It runs less often here.
- transformers and TRL each read the file lists of all installed packages. Here the first subprocess
  writes the result to the file P2R_TEST_PACKAGES, and the others read the file.

Ray and Jupyter import jsonschema. If the optional package rfc3987_syntax is installed, jsonschema
lets it build a parser of international addresses, which takes 1.5 s. No test needs the parser, so
the package is hidden.
"""

import gc
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder

THRESHOLD = (50_000, 10, 10)
STARTED = gc.get_threshold() == THRESHOLD  # another sitecustomize may run this file again
gc.set_threshold(*THRESHOLD)


class QuickFinder:
    """Hides rfc3987_syntax, and remembers what `importlib.metadata` says about packages."""

    @staticmethod
    def find_spec(name, path=None, target=None) -> ModuleSpec | None:
        if name == "rfc3987_syntax":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name != "importlib.metadata":
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_change(module) -> None:
            execute(module)
            module.packages_distributions = remembered(module.packages_distributions)

        spec.loader.exec_module = execute_and_change
        return spec


def remembered(scan):
    """Return `packages_distributions` that reads the file, or scans and writes the file."""

    def packages_distributions() -> dict[str, list[str]]:
        import json

        file = os.environ["P2R_TEST_PACKAGES"]
        try:
            with open(file, encoding="utf-8") as known:
                prefix, found = json.load(known)
            if prefix == sys.prefix:
                return found
        except OSError:
            pass
        found = dict(scan())
        mine = f"{file}.{os.getpid()}"
        with open(mine, "w", encoding="utf-8") as new:
            json.dump([sys.prefix, found], new)
        os.replace(mine, file)
        return found

    return packages_distributions


if "P2R_TEST_PACKAGES" in os.environ and not STARTED:
    sys.meta_path.insert(0, QuickFinder)

# This file hides the next sitecustomize of the path, so run that one too, if there is one.
_path = [os.path.abspath(entry) for entry in sys.path]
_here = os.path.dirname(os.path.abspath(__file__))
_next = _path[_path.index(_here) + 1 :] if _here in _path and not STARTED else []
_other = PathFinder.find_spec("sitecustomize", _next)
if _other and _other.loader:
    from importlib.util import module_from_spec

    _other.loader.exec_module(module_from_spec(_other))
