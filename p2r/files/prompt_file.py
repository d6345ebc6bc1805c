"""Prompts from files: Jinja templates in a sandbox, with documented variables.

A prompt file is a text file in Jinja syntax. Recipes name it as `models.prompt`,
`models.agnostic_prompt` or `judging.prompt`, and the run's `recipe.yaml` keeps its whole text. So a
run does not need the file again.

| variable       | model | judge | value                                                          |
|----------------|-------|-------|----------------------------------------------------------------|
| `problem`      | yes   | yes   | the question's text                                            |
| `options`      | yes   | yes   | list of option texts with their letters; may be empty          |
| `problem_type` | yes   | no    | multiple choice, numerical, OCR, free-form or regression       |
| `answer_form`  | yes   | no    | one sentence on the form of the answer for this problem type   |
| `answer`       | no    | yes   | the reference answer                                           |
| `observation`  | no    | yes   | the observation to judge                                       |
| `media`        | yes   | yes   | "video" or "image"                                             |

The texts of questions are values of these variables. They are never read as a template, and they
are made safe before they are filled in.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from p2r.errors import DataError, UserError

MOST_BYTES = 100_000
MODEL_VARIABLES = ("problem", "options", "problem_type", "answer_form", "media")
JUDGE_VARIABLES = ("problem", "options", "answer", "observation", "media")

_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def is_template(text: str) -> bool:
    """Return whether a text is the content of a prompt file, not the name of a style or a file."""
    return "{{" in text


def read_prompt_file(file: str | Path) -> str:
    """Return the text of a prompt file. Raises `UserError` if it cannot be read."""
    path = Path(file).expanduser()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"prompt file {path} is larger than {MOST_BYTES} bytes: shorten it")
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UserError(f"no prompt file {path} ({error.strerror}): give a text file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"prompt file {path} is not UTF-8 text: save it as UTF-8") from error


def check_template(text: str, variables: tuple[str, ...], needed: tuple[str, ...]) -> None:
    """Raise `UserError` if a template has a syntax error, unknown variables, or lacks `needed`."""
    try:
        used = meta.find_undeclared_variables(_environment.parse(text))
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        raise UserError(f"the prompt is not a Jinja template{where}: {error}") from error
    if unknown := sorted(used - set(variables)):
        raise UserError(
            f"the prompt uses unknown variables ({', '.join(unknown)}): use {', '.join(variables)}"
        )
    if missing := [name for name in needed if name not in used]:
        raise UserError(
            "the prompt does not use "
            + " and ".join(f"{{{{ {name} }}}}" for name in missing)
            + ": add it where the text belongs"
        )


def fill_template(text: str, **values: Any) -> str:
    """Return the prompt: a template filled with values. Raises `DataError` if it fails."""
    try:
        return _compile(text).render(**values).strip()
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise DataError(f"the prompt file cannot be filled: {error}") from error


def template_hash(text: str) -> str:
    """Return 12 hex digits that change with the template."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _compile(text: str) -> Template:
    return _environment.from_string(text)
