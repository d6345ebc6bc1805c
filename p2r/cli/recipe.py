"""`p2r recipe`: list, show, describe and compare recipes."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.complete import complete_recipes
from p2r.cli.options import JsonOption, SetOption, app

recipe_app = typer.Typer(
    name="recipe", help="List, show, describe and compare recipes.", no_args_is_help=True
)
app.add_typer(recipe_app)
NAME = "NAME|FILE|RUN"
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar=NAME,
        help="Recipe, NAME+PRESET, YAML file or run folder.",
        autocompletion=complete_recipes,
    ),
]


@recipe_app.command("list", epilog="Example: p2r recipe list")
def list_recipes(as_json: JsonOption = False) -> None:
    """List the recipes and presets that p2r has."""
    from p2r.runs.recipe_keys import describe_recipes

    found = describe_recipes()
    if as_json:
        print(json.dumps(found, indent=1))
        return
    from p2r.cli.tables import grid_table, make_console

    for kind, described in found.items():
        rows = [["name", "what it is"], *map(list, described.items())]
        make_console().print(grid_table(kind, rows, left=2))


@recipe_app.command(epilog="Example: p2r recipe show tiny --set rl.steps=20 > mine.yaml")
def show(name: NameArgument, set: SetOption = None, as_json: JsonOption = False) -> None:
    """Print a recipe with all its keys, also those that it inherits."""
    from p2r.runs.recipe_keys import load_any

    recipe = load_any(name, set)
    if as_json:
        print(json.dumps(recipe.model_dump(mode="json"), indent=1))
    else:
        print(recipe.to_yaml(), end="")


@recipe_app.command(epilog="Example: p2r recipe keys 'rl.*'")
def keys(
    pattern: Annotated[
        str, typer.Argument(metavar="[PATTERN]", help="Only these keys, for example 'rl.*'.")
    ] = "*",
    as_json: JsonOption = False,
) -> None:
    """List recipe keys with their types, defaults and meanings."""
    from p2r.runs.recipe_keys import recipe_keys, show_value

    found = [key for key in recipe_keys() if fnmatchcase(key.name, pattern)]
    if not found:
        raise typer.BadParameter(f"no recipe key matches {pattern!r}: see p2r recipe keys")
    if as_json:
        print(json.dumps([key._asdict() for key in found], indent=1, default=_plain))
        return
    for key in found:
        default = "required" if key.required else show_value(_plain(key.default))
        print(f"{key.name}: {key.type}, default {default}\n    {key.description}")


def _plain(value: object) -> object:
    """Return sets and tuples as lists."""
    return list(value) if isinstance(value, tuple | frozenset) else value


@recipe_app.command(epilog="Example: p2r recipe schema --out recipe.schema.json")
def schema(
    out: Annotated[
        Path | None, typer.Option("--out", help="Write this file. Default: print it.")
    ] = None,
) -> None:
    """Print the JSON Schema of recipe files, for completion and checks in editors."""
    from p2r.files.atomic import write_text
    from p2r.runs.recipe_keys import recipe_schema

    text = json.dumps(recipe_schema(), indent=1) + "\n"
    if out is None:
        print(text, end="")
    else:
        write_text(out, text)
        print(out)


@recipe_app.command(epilog="Example: p2r recipe diff 3b 7b")
def diff(first: NameArgument, second: NameArgument, as_json: JsonOption = False) -> None:
    """Show the keys in which two recipes or runs differ."""
    from p2r.runs.recipe_keys import recipe_difference, show_value

    found = recipe_difference(first, second)
    if as_json:
        print(json.dumps({key: list(pair) for key, pair in found.items()}, indent=1))
        return
    if not found:
        print("the recipes are equal")
        return
    from p2r.cli.tables import grid_table, make_console

    rows = [[key, *map(show_value, pair)] for key, pair in found.items()]
    make_console().print(grid_table("", [["key", first, second], *rows], left=3))
