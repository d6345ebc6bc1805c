"""Checks the commands of a documentation page against the real programs, without running them.

Every command is parsed to the end by the program's own parser. Recipes, overrides and judges are
read. `p2r rl` runs with `--dry-run`, and `p2r doctor --recipe` runs as it is.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import typer.main
import yaml

from p2r.cli import app, run_cli
from p2r.judges import check_spec
from p2r.runs.recipe import load_recipe

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=")  # NAME=VALUE before a command
PROGRAMS = ("p2r", "make", "accelerate", "python", "pip", "conda", "bash", "tensorboard", "export")


class WrongCommand(AssertionError):
    """A command of a page that the program would refuse."""


def command_blocks(text: str) -> Iterator[list[str]]:
    """Yield the commands of each code block whose first line starts with a known program."""
    blocks: list[list[str]] = [[]]
    fenced = False
    for line in text.splitlines():
        if line.strip().startswith("```"):
            fenced = not fenced
            blocks.append([])
        elif fenced or line.startswith("    "):
            blocks[-1].append(line.strip())
        elif line.strip():
            blocks.append([])
    for block in blocks:
        lines = [line for line in block if line and not line.startswith("#")]
        if lines and lines[0].split()[0] in PROGRAMS:
            yield [part for line in lines for part in _split(line)]


def _split(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    commands: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "&"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [shlex.join(command) for command in commands if command]


def check_block(commands: list[str]) -> None:
    """Check the commands of a block; a run keeps the recipe that began it. Raises WrongCommand."""
    recipes: dict[str, str] = {}
    for command in commands:
        try:
            _check(shlex.split(command), recipes)
        except (typer.TyperException, ValueError, OSError, AssertionError) as error:
            text = error.format_message() if isinstance(error, typer.TyperException) else error
            raise WrongCommand(f"{command}: {text}") from error


def _check(words: list[str], recipes: dict[str, str]) -> None:
    program, *arguments = itertools.dropwhile(VARIABLE.match, words)
    program = program.removeprefix(".venv/bin/")
    checks = {
        "p2r": lambda: _check_p2r(arguments, recipes),
        "make": lambda: _check_make(arguments),
        "accelerate": lambda: _check_accelerate(arguments, recipes),
        "python": lambda: _check_script(arguments),
        "bash": lambda: _check_script(arguments),
        "pip": lambda: _check_pip(arguments),
        "conda": lambda: _check_files(arguments),
        "tensorboard": lambda: None,
        "pre-commit": lambda: None,
        "export": lambda: None,
    }
    if program not in checks:
        raise AssertionError(f"unknown program {program!r}")
    checks[program]()


# ---- p2r


def _check_p2r(arguments: list[str], recipes: dict[str, str]) -> None:
    command: Any = typer.main.get_command(app)
    words = list(arguments)
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            raise AssertionError(f"no verb {words[0]!r}")
        command = command.commands[words.pop(0)]
    context = command.make_context(command.name, list(words))
    given = context.params
    run, overrides = str(given.get("run") or ""), list(given.get("set") or [])
    if given.get("recipe"):
        recipes[run] = given["recipe"]
    name = recipes.get(run, "tiny")
    if given.get("credit"):
        overrides.append(f"rl.credit={given['credit']}")
    recipe = load_recipe(name, overrides)
    for judge in (recipe.filter.judge, recipe.rl.judge, recipe.eval.judge):
        check_spec(judge)
    setting = [word for pair in overrides for word in ("--set", pair)]
    if command.name == "rl":
        _run("rl", "--dry-run", "--recipe", name, *setting)
    elif command.name == "doctor" and given.get("recipe"):
        _run("doctor", *words)


def _run(*arguments: str) -> None:
    if code := run_cli(list(arguments)):
        raise AssertionError(f"p2r {shlex.join(arguments)} ends with exit code {code}")


# ---- other programs


def _check_accelerate(arguments: list[str], recipes: dict[str, str]) -> None:
    from accelerate.commands.launch import launch_command_parser

    try:
        given = launch_command_parser().parse_args(arguments[1:])
    except SystemExit as error:
        raise AssertionError("accelerate does not take these options") from error
    config = yaml.safe_load((ROOT / given.config_file).read_text(encoding="utf-8"))
    assert given.module and given.training_script == "p2r", "start it with -m p2r"
    kind, stage = config["distributed_type"], config.get("deepspeed_config", {}).get("zero_stage")
    launched = {
        "WORLD_SIZE": str(given.num_processes or config["num_processes"]),
        "ACCELERATE_USE_DEEPSPEED": str(kind == "DEEPSPEED").lower(),
        "ACCELERATE_USE_FSDP": str(kind == "FSDP").lower(),
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage),
    }
    with mock.patch.dict(os.environ, launched):
        _check_p2r(given.training_script_args, recipes)


def _check_make(arguments: list[str]) -> None:
    targets = [word for word in arguments if "=" not in word]
    done = subprocess.run(
        ["make", "--dry-run", *targets], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.strip()


def _check_script(arguments: list[str]) -> None:
    file, *options = arguments
    source = (ROOT / file).read_text(encoding="utf-8") if (ROOT / file).is_file() else None
    assert source is not None, f"no file {file}"
    for option in options:
        if option.startswith("--"):
            assert f'"{option.split("=")[0]}"' in source, f"{file} has no option {option}"


def _check_pip(arguments: list[str]) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = settings["project"]["optional-dependencies"]
    for found in re.findall(r"(?:p2r|\.)\[([\w,-]+)\]", " ".join(arguments)):
        assert set(found.split(",")) <= set(extras), f"no extra {found}"
    assert arguments[:1] == ["install"], f"pip {arguments[0]}"


def _check_files(arguments: list[str]) -> None:
    for word in arguments:
        assert not word.endswith((".yml", ".yaml")) or (ROOT / word).is_file(), f"no file {word}"
