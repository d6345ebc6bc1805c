"""Load a class or function of the user: `FILE.py:NAME` or `package.module:NAME`.

Rewards, judges and trackers of the user are loaded in this way. A recipe that names a file runs the
code in it: read the recipes of others before you use them.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from p2r.errors import UserError


def split_spec(spec: str) -> tuple[str, str]:
    """Return the file or module, and the name. Raises `UserError`."""
    place, colon, name = spec.rpartition(":")
    if not colon or not name.isidentifier() or not place:
        raise UserError(f"{spec!r} must be FILE.py:NAME or package.module:NAME")
    return place, name


def load_object(spec: str) -> Any:
    """Return the object that a spec names. The file or module is imported once.

    Raises `UserError` if the file, the module or the name is missing, or if the code fails.
    """
    place, name = split_spec(spec)
    try:
        module = (
            _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        )
    except FileNotFoundError:
        raise UserError(f"{spec}: no file {place}") from None
    except Exception as error:
        raise UserError(
            f"{spec} cannot be imported ({type(error).__name__}: {error}); a package of your own "
            "must be on PYTHONPATH"
        ) from error
    if not hasattr(module, name):
        raise UserError(f"{spec}: {place} has no {name}")
    return getattr(module, name)


def source_of(spec: str) -> str:
    """Return the source of the file or module that a spec names; "" if it has none."""
    place, _ = split_spec(spec)
    if place.endswith(".py"):
        return Path(place).read_text(encoding="utf-8")
    found = importlib.util.find_spec(place)
    file = Path(found.origin) if found and found.origin else None
    return file.read_text(encoding="utf-8") if file and file.suffix == ".py" else ""


def stamp_of(spec: str) -> str:
    """Return the name in a spec and 12 hex digits that change with the source of its file."""
    source = source_of(spec) + "\n"
    return f"{split_spec(spec)[1]} {hashlib.sha256(source.encode()).hexdigest()[:12]}"


def _load_file(path: Path) -> Any:
    """Import a file under a name that is made from its path and its content."""
    source = path.read_bytes()
    digest = hashlib.sha256(str(path.resolve()).encode() + source).hexdigest()[:12]
    name = f"p2r_user_{path.stem}_{digest}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
