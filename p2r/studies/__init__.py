"""Experiments over several seeds: one module per study, found by its file name.

A study module defines `STUDY`, a `p2r.studies.base.Study`. `p2r study NAME` runs it.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from p2r.errors import UserError

if TYPE_CHECKING:
    from p2r.studies.base import Study


def study_names() -> list[str]:
    """Return the names of all studies: every module of this package except `base`."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def load_study(name: str) -> Study:
    """Return a study by its name. Raises `UserError` for an unknown name."""
    if name not in study_names():
        raise UserError(f"unknown study {name!r}: choose one of {', '.join(study_names())}")
    return importlib.import_module(f"{__name__}.{name}").STUDY
