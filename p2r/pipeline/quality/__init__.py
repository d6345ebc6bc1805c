"""Quality filters beyond the paper: each drops kept traces, and each is off by default.

A filter is one module of this package, found by its file name, with

- `find_drops(kept, setting)`: returns the keys of the traces to drop. `kept` yields (key, case) of
  the traces that all earlier filters kept. It should take time linear in the text.
- `ORDER`: filters run in this order (default: last, by name).
- `NAME`: its name in the funnel (default: the module's name with spaces).

The recipe turns a filter on with `filter.quality.MODULE`, the setting that `find_drops` gets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from p2r.records import Case
from p2r.runs.recipe import QualitySettings, find_plugins

Kept = Iterator[tuple[str, Case]]
Setting = bool | float | int


@dataclass(frozen=True)
class QualityFilter:
    """A filter module: its `name` in the funnel and its `setting` in the recipe."""

    name: str
    setting: str
    order: float
    find_drops: Callable[[Kept, Setting], Iterable[str]]


@cache
def quality_filters() -> tuple[QualityFilter, ...]:
    """Return all filters, in the order in which they run."""
    found = []
    for name in find_plugins("pipeline/quality", "find_drops"):
        module = import_module(f"{__name__}.{name}")
        title = getattr(module, "NAME", name.replace("_", " "))
        order = getattr(module, "ORDER", math.inf)
        found.append(QualityFilter(title, name, order, module.find_drops))
    return tuple(sorted(found, key=lambda each: (each.order, each.name)))


def find_drops(settings: QualitySettings, kept: Callable[[], Kept]) -> dict[str, str]:
    """Return the traces that the active filters drop: key to the filter's name.

    `kept()` yields the cases that passed the paper's filter with their keys, once per call.
    """
    drops: dict[str, str] = {}
    for each in quality_filters():
        if setting := getattr(settings, each.setting, None):
            alive = ((key, case) for key, case in kept() if key not in drops)
            drops |= dict.fromkeys(each.find_drops(alive, setting), each.name)
    return drops


def active(settings: QualitySettings) -> tuple[str, ...]:
    """Return the names of the active filters, in order."""
    return tuple(thresholds(settings))


def thresholds(settings: QualitySettings) -> dict[str, Setting]:
    """Return the active filters with their settings."""
    found = {each.name: getattr(settings, each.setting, None) for each in quality_filters()}
    return {name: setting for name, setting in found.items() if setting}
