"""Prompt styles: the names of the built-in prompts, and prompt files."""

from __future__ import annotations

from pathlib import Path

from p2r.errors import UserError
from p2r.files.prompt_file import (
    MODEL_VARIABLES,
    check_template,
    is_template,
    read_prompt_file,
)

AGNOSTIC = {"full": "think", "brief": "brief-think"}  # prompt styles without an observation
STYLES = (*AGNOSTIC, *AGNOSTIC.values(), "direct")


def read_style(style: str, known: tuple[str, ...] = STYLES, folder: Path | None = None) -> str:
    """Return a prompt style: a known name, or the text of the prompt file that is named.

    The text of a prompt file is a style too and is returned as it is. A relative path starts at the
    working directory; if no such file is there, at `folder`. Raises `UserError`.
    """
    if style in known:
        return style
    return read_template(style, MODEL_VARIABLES, ("problem",), known, folder)


def read_template(
    given: str,
    variables: tuple[str, ...],
    needed: tuple[str, ...],
    known: tuple[str, ...],
    folder: Path | None,
) -> str:
    """Return the text of a prompt, which is given as a text or as a file. Raises `UserError`."""
    text, source = given, "the text of the prompt"
    if not is_template(given):
        path = Path(given).expanduser()
        if not path.is_file() and folder is not None:
            path = folder / path
        if not path.is_file():
            raise UserError(f"no prompt {given!r}: use {', '.join((*known, 'or a prompt file'))}")
        text, source = read_prompt_file(path), str(path)
        if not is_template(text):
            raise UserError(f"{path} is no prompt file: write {{{{ {needed[0]} }}}} in it")
    try:
        check_template(text, variables, needed)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    return text
