"""Describe recipes: their keys with types and defaults, a JSON Schema, their differences.

The command `p2r recipe` and the reference of recipe keys use these functions.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from p2r.runs.folder import differences
from p2r.runs.recipe import FOLDER, PRESETS, Recipe, load_recipe, preset_names, recipe_names


class Key(NamedTuple):
    """One key of a recipe: `section.key`, its type in words, its default, and what it is for."""

    name: str
    type: str
    default: Any  # None also if the key is required
    required: bool
    description: str


def recipe_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[Key]:
    """Yield all keys of a recipe, section by section, in the order of their definition."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from recipe_keys(inner, f"{prefix}{name}.")
            continue
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        text = " ".join((field.description or "").split())
        yield Key(f"{prefix}{name}", type_name(inner), default, field.is_required(), text)


def type_name(kind: Any) -> str:
    """Return a type in words, for example `int | none`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " | ".join(map(str, arguments))
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_name(argument) for argument in arguments)
    if kind is type(None):
        return "none"
    if arguments:
        return f"{origin.__name__}[{', '.join(map(type_name, arguments))}]"
    return getattr(kind, "__name__", str(kind))


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file, for editors.

    A recipe with `base` inherits the keys that it does not set, so no other key is required then.
    """
    schema = Recipe.model_json_schema()
    required = schema.pop("required")
    for section in schema["$defs"].values():
        section.pop("required", None)
    schema["properties"] = {
        "base": {
            "type": "string",
            "description": "The recipe to start from: a name, NAME+PRESET, or a file beside this "
            "one. The other keys of this file replace its keys.",
        },
        **schema["properties"],
    }
    schema["anyOf"] = [{"required": ["base"]}, {"required": required}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def describe_recipes() -> dict[str, dict[str, str]]:
    """Return the first line of every recipe and of every preset that p2r has, by name."""
    return {
        "recipes": {name: _first_comment(FOLDER / f"{name}.yaml") for name in recipe_names()},
        "presets": {name: _first_comment(PRESETS / f"{name}.yaml") for name in preset_names()},
    }


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ") if first.startswith("#") else ""


def load_any(name: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Return the recipe of a name, a YAML file or a run folder. Raises `UserError`."""
    kept = Path(name) / "recipe.yaml"
    return load_recipe(kept if kept.is_file() else name, overrides)


def recipe_difference(first: str | Path, second: str | Path) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two recipes or runs differ, with both values."""
    old, new = (load_any(name).model_dump(mode="json") for name in (first, second))
    return differences(old, new)


def show_value(value: Any) -> str:
    """Return a value as it is written in a recipe, in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").strip()
