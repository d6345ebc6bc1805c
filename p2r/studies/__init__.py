"""Experiments over several seeds: one module per study, found by its file name.

A study module defines `STUDY`, a `p2r.studies.base.Study`. `p2r study NAME` runs it. A study may
also be a file of the user: `p2r study FILE.py`.
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
    found = pkgutil.iter_modules(__path__)
    return sorted(module.name for module in found if module.name != "base" and not module.ispkg)


def load_study(name: str) -> Study:
    """Return a study by its name, or from a file `FILE.py`. Raises `UserError`."""
    if name.endswith(".py"):
        from p2r.files.user_code import load_object
        from p2r.studies.base import Study

        study = load_object(f"{name}:STUDY")
        if not isinstance(study, Study):
            raise UserError(f"STUDY of {name} is not a p2r.studies.base.Study")
        return study
    if name not in study_names():
        raise UserError(
            f"unknown study {name!r}: choose one of {', '.join(study_names())}, or give a FILE.py"
        )
    return importlib.import_module(f"{__name__}.{name}").STUDY
