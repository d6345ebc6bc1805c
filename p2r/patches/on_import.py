"""Run a change when a module is imported for the first time.

The libraries that p2r changes take seconds to import. A hook makes the change at the right moment
without importing the library early.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any


class ImportHook(MetaPathFinder):
    """Calls `before` with the module's spec, or `after` with the module, at its first import.

    The hook removes itself from `sys.meta_path` before it does its work.
    """

    def __init__(
        self,
        module: str,
        before: Callable[[ModuleSpec | None], Any] | None = None,
        after: Callable[[Any], None] | None = None,
    ) -> None:
        self.module, self.before, self.after = module, before, after

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self.module:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if self.before is not None:
            self.before(PathFinder.find_spec(name))
        if self.after is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        execute, after = spec.loader.exec_module, self.after

        def execute_and_change(module: Any) -> None:
            execute(module)
            after(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def before_import(module: str, change: Callable[[ModuleSpec | None], Any]) -> None:
    """Call `change` with the module's spec just before its first import.

    Does nothing if the module is already imported or already has a hook.
    """
    if module not in sys.modules and not is_hooked(module):
        sys.meta_path.insert(0, ImportHook(module, before=change))


def after_import(module: str, change: Callable[[Any], None]) -> None:
    """Call `change` with the module: now if it is imported, otherwise right after its import."""
    if module in sys.modules:
        change(sys.modules[module])
    elif not is_hooked(module):
        sys.meta_path.insert(0, ImportHook(module, after=change))


def is_hooked(module: str) -> bool:
    """Return whether a hook waits for the import of a module."""
    return any(isinstance(hook, ImportHook) and hook.module == module for hook in sys.meta_path)
