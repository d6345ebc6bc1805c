"""The model families that p2r trains, one file each. Every family is found by the name of its file.

A module `MODEL_TYPE.py` defines `FAMILY`, a `p2r.families.base.Family`. It imports no library of
models, so that a plan needs none.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from p2r.errors import EngineError
from p2r.families.base import Family
from p2r.families.sizes import Architecture

_PARTS = ("base", "sizes")


@cache
def all_families() -> dict[str, Family]:
    """Return every family by its model type."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _PARTS)
    families = [importlib.import_module(f"{__name__}.{name}").FAMILY for name in names]
    return {family.model_type: family for family in families}


def find_family(model_type: str | None, model: str = "") -> Family:
    """Return the family of a model type. `model` names the model in the error, an `EngineError`."""
    if family := all_families().get(str(model_type)):
        return family
    known = " or ".join(f"{f.model_type!r} ({f.name})" for f in all_families().values())
    raise EngineError(
        f"model {model!r} has no video support here: its type is {model_type!r}; use a model of "
        f"type {known}"
    )


def family_of_model(model: Any) -> Family:
    """Return the family of a loaded model."""
    return find_family(model.config.model_type, str(model.config.name_or_path))


def family_of_processor(processor: Any, model: str = "") -> Family:
    """Return the family that a processor belongs to; raises `EngineError`."""
    kind = type(processor).__name__
    for family in all_families().values():
        if family.processor == kind:
            return family
    known = " or ".join(family.processor for family in all_families().values())
    raise EngineError(
        f"model {model!r} has no video support here: its processor is a {kind}; use a model with "
        f"a {known}"
    )


@cache
def published_configs() -> dict[str, Mapping[str, Any]]:
    """Return the known configs by hub id."""
    families = all_families().values()
    return {name: config for family in families for name, config in family.published.items()}


def read_sizes(config: Mapping[str, Any]) -> Architecture:
    """Return the sizes of a model from its `config.json`; raises `EngineError`."""
    return find_family(config.get("model_type")).sizes(config)
