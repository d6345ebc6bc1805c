"""Writes the pages that come from code: the map of modules, and the site's reference.

mkdocs runs this file as a hook. It adds the home page (`README.md`), the contributor's pages, the
CLI and recipe reference and one API page per package. So no generated page is ever out of date.

    python docs/generate.py           write docs/modules.md
    python docs/generate.py --check   exit with 1 if docs/modules.md is out of date
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MAP = ROOT / "docs" / "modules.md"
# Pages of the site whose text is in the root folder, for readers on GitHub.
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
MAP_HEAD = """# Map of modules

One line per module, from its docstring. `make map` writes this page. A test fails if it is out of
date. A package imports only from layers below its own: [architecture](architecture.md).
"""


# ---- the map of modules


def read_layers() -> list[list[str]]:
    """Return the packages of every layer, from the lowest, as import-linter checks them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    contracts = settings["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip(" ()") for name in layer.split("|")] for layer in reversed(layers)]


def module_paths(package: str) -> list[Path]:
    """Return the files of a package or single module of `p2r`; a package's `__init__` is first."""
    single = ROOT / "p2r" / f"{package}.py"
    if single.is_file():
        return [single]
    paths = (ROOT / "p2r" / package).rglob("*.py")  # none: a package that the contract allows
    return sorted(paths, key=lambda path: (path.parent, path.name != "__init__.py", path.name))


def first_line(path: Path) -> str:
    """Return the first sentence of a module's docstring, on one line; raises if there is none."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{path} has no docstring: its first line says what the module is for")
    paragraph = " ".join(text.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z`])", paragraph)[0]
    return sentence.replace("|", "\\|").replace("<", "&lt;")


def module_map() -> str:
    """Return `docs/modules.md`: a table of modules for every layer."""
    parts = [MAP_HEAD]
    ground, *layers = read_layers()
    for number, packages in enumerate([ground + layers[0], *layers[1:]], start=1):
        parts += [f"## Layer {number}\n", "| module | what it does |", "|---|---|"]
        for package in packages:
            for path in module_paths(package):
                parts.append(f"| `{path.relative_to(ROOT)}` | {first_line(path)} |")
        parts.append("")
    parts += ["## Outside the layers\n", "| module | what it does |", "|---|---|"]
    for path in (*sorted((ROOT / "p2r").glob("__*.py")), *sorted((ROOT / "apps").glob("*.py"))):
        parts.append(f"| `{path.relative_to(ROOT)}` | {first_line(path)} |")
    return "\n".join(parts) + "\n"


# ---- the reference


def cli_reference() -> str:
    """Return the page of all verbs with their arguments, options and examples."""
    import typer.main

    from p2r.cli import app

    parts = ["# Command line\n", app.info.help or "", ""]
    for name, command in _commands(typer.main.get_command(app), "p2r"):
        context = typer.Context(command, info_name=name)
        parts += [f"## `{name}`\n", f"{command.help or ''}\n"]
        shown = [parameter for parameter in command.params if not parameter.hidden]
        rows = [_option_row(parameter, context) for parameter in shown]
        if rows:
            parts += ["| option | meaning |", "|---|---|", *rows, ""]
        if command.epilog:
            examples = re.sub(r"\s*Example: ", "\n", command.epilog).strip()
            parts += ["```", re.sub(r"\n{2,}", "\n", examples), "```\n"]
    return "\n".join(parts)


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for verb, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            if not hasattr(child, "commands"):
                yield f"{name} {verb}", child
            yield from _commands(child, f"{name} {verb}")


def _option_row(parameter: Any, context: Any) -> str:
    record = parameter.get_help_record(context)
    option, text = record or (parameter.make_metavar(context), parameter.help or "")
    return f"| `{_cell(option)}` | {_cell(text)} |"


def recipe_reference() -> str:
    """Return the page of all recipe keys with types, defaults and meanings."""
    from p2r.runs.recipe import FOLDER, Recipe

    parts = [
        "# Recipe keys\n",
        "A recipe is a YAML file. Change one key with `--set section.key=value`. The recipes that "
        "come with p2r are at the end of this page.\n",
    ]
    sections = {
        name: field.annotation
        for name, field in Recipe.model_fields.items()
        if hasattr(field.annotation, "model_fields")
    }
    parts += ["## Top level\n", *_keys(Recipe, "", leave_out=set(sections))]
    for name, model in sections.items():
        parts += [f"## `{name}`\n", f"{_text(model)}\n", *_keys(model, f"{name}.")]
    for path in sorted(FOLDER.glob("*.yaml")):
        source = path.read_text(encoding="utf-8").rstrip()
        parts += [f"## Recipe `{path.stem}`\n", "```yaml", source, "```\n"]
    return "\n".join(parts)


def _keys(model: Any, prefix: str, leave_out: set[str] = frozenset()) -> list[str]:
    from p2r.runs.recipe_keys import type_name

    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    nested = []
    for name, field in model.model_fields.items():
        if name in leave_out:
            continue
        if hasattr(field.annotation, "model_fields"):
            nested += [f"### `{prefix}{name}`\n", f"{_text(field.annotation)}\n"]
            nested += _keys(field.annotation, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else f"`{_show(_default(field))}`"
        kind = f"`{_cell(type_name(field.annotation))}`"
        rows.append(f"| `{prefix}{name}` | {kind} | {default} | {_cell(field.description or '')} |")
    return [*(rows if len(rows) > 2 else []), "", *nested]


def _default(field: Any) -> Any:
    return field.get_default(call_default_factory=True)


def _show(value: Any) -> str:
    return "none" if value is None else _cell(json.dumps(value))


def _text(model: Any) -> str:
    return " ".join((model.__doc__ or "").split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def api_pages() -> dict[str, str]:
    """Return one page per package: its public names, module by module."""
    pages = {}
    for packages in read_layers():
        for package in packages:
            lines = [f"# p2r.{package}\n"]
            for path in module_paths(package):
                if not (path.parent / "__init__.py").is_file():
                    continue  # a script that another program runs, not a module of the package
                parts = path.relative_to(ROOT).with_suffix("").parts
                lines.append(f"::: {'.'.join(parts).removesuffix('.__init__')}\n")
            if len(lines) > 1:
                pages[f"reference/api/{package}.md"] = "\n".join(lines)
    return pages


# ---- mkdocs


def site_page(name: str) -> str:
    """Return a page of the root folder with links that work inside the site."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for source, target in ROOT_PAGES.items():
        text = text.replace(f"]({source}", f"]({target}")
    return re.sub(r"\[([^\]]+)\]\((?:LICENSE|CITATION\.cff)\)", r"\1", text)


def on_config(config: Any) -> Any:
    """List the API pages in the navigation, by layer (a hook of mkdocs)."""
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    reference.append({"API": list(api_pages())})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages (a hook of mkdocs)."""
    from mkdocs.structure.files import File

    pages = {
        "reference/cli.md": cli_reference(),
        "reference/recipes.md": recipe_reference(),
        **api_pages(),
        **{target: site_page(source) for source, target in ROOT_PAGES.items()},
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def main() -> int:
    """Write or check `docs/modules.md`."""
    text = module_map()
    if "--check" in sys.argv[1:]:
        if MAP.is_file() and MAP.read_text(encoding="utf-8") == text:
            return 0
        print(f"{MAP} is out of date: run make map", file=sys.stderr)
        return 1
    MAP.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
