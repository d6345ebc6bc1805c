"""The shapes of question records, one file each. p2r finds every module in this folder.

A module defines `SHAPE`. `unify` turns a record of any shape into one with the keys of Video-R1
(problem_id, problem, options, solution, path, data_type, problem_type, data_source). All other
keys stay.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from p2r.formats.values import BadValue, Raw, blank, short, usual_key


@dataclass(frozen=True)
class Shape:
    """A shape of question records.

    `keys` names the keys that mark it, for messages and documentation; `example` is a small record.
    `matches` tells whether a record has this shape. `unify` returns the record with the keys of
    Video-R1. It may raise BadValue. Shapes of a lower `order` are tried first.
    """

    name: str
    keys: str
    example: Raw
    matches: Callable[[Raw], bool]
    unify: Callable[[Raw], Raw]
    order: int = 1


@cache
def all_shapes() -> tuple[Shape, ...]:
    """Return all shapes, in the order in which they are tried."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    shapes = [importlib.import_module(f"{__name__}.{name}").SHAPE for name in names]
    return tuple(sorted(shapes, key=lambda shape: shape.order))


def shape_of(record: Any) -> Shape | None:
    """Return the shape of a record; None if it has none of the known shapes."""
    if not isinstance(record, dict):
        return None
    record = _known_keys(record)
    return next((shape for shape in all_shapes() if shape.matches(record)), None)


def unify(record: Raw) -> Raw:
    """Return a record with the keys of Video-R1. Raises BadValue for an unknown shape."""
    record = _known_keys(record)
    shape = shape_of(record)
    if shape is None:
        if "problem" in record:
            raise BadValue("no problem text")
        found = ", ".join(map(str, record)) or "none"
        known = "; ".join(f"{shape.keys} ({shape.name})" for shape in all_shapes())
        raise BadValue(
            f"no problem text: the keys are {short(found)[1:-1]}; the known shapes have {known}"
        )
    return shape.unify(record)


@cache
def _names() -> frozenset[str]:
    """Return all keys that some shape reads."""
    from p2r.formats.media import MEDIA_KEYS
    from p2r.formats.shapes import chat, plain

    names = {name for others in plain.NAMES.values() for name in others}
    return frozenset({*names, *plain.NAMES, *MEDIA_KEYS, *chat.TURNS, "answer", "data_type"})


def _known_keys(record: Raw) -> Raw:
    """Return a record whose known keys are in lower case: "Question" → question."""
    if all(key.islower() for key in record):
        return record
    usual = ((usual_key(key), key, value) for key, value in record.items())
    return {
        new if new in _names() and new not in record else key: value for new, key, value in usual
    }


def rename(record: Raw, names: dict[str, tuple[str, ...]]) -> Raw:
    """Return a record with the usual names of its keys.

    If a key of `names` has no value, the first of its other names that has a value is renamed.
    """
    renamed = dict(record)
    for key, others in names.items():
        if not blank(record.get(key)):
            continue
        other = next((name for name in others if not blank(renamed.get(name))), None)
        if other is not None:
            renamed[key] = renamed.pop(other)
    return renamed
