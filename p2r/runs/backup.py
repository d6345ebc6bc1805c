"""Undo the change of a recipe by a command that is refused before its stage begins.

Otherwise the settings that were refused would be in the run, and every later command would fail.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from p2r.files.atomic import write_text

# Their sizes tell whether a stage has begun or continued.
_PROGRESS = (
    *("generate*.json*", "filter*.json*", "*/made.json", "*/metrics.jsonl", "*/rollouts.jsonl"),
    *("*/checkpoints/*", "*/model", "eval/*", "results/*", "study_*.json", "studies/*/*"),
    *("verdicts*", "*/verdicts*"),
)


class RecipeBackup:
    """The recipe of a run before a command changes it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "recipe.yaml"
        self._old = self._read()
        self._new = self._old
        self._progress = self._measure()

    def note_change(self) -> None:
        """Note the recipe that the command has written."""
        self._new = self._read()

    def restore(self) -> None:
        """Restore the recipe if no stage has begun or continued with the changed one.

        A new run keeps its first recipe. A recipe that another program changed meanwhile
        stays, and so do changed settings of `judging`: they limit what the next command spends.
        """
        if self._old is None or self._new in (None, self._old) or self._read() != self._new:
            return
        if _judging(self._old) == _judging(self._new) and self._measure() == self._progress:
            write_text(self._file, self._old)

    def _read(self) -> str | None:
        return self._file.read_text(encoding="utf-8") if self._file.is_file() else None

    def _measure(self) -> dict[Path, int]:
        found = (file for pattern in _PROGRESS for file in self._file.parent.glob(pattern))
        sizes = {file: file.stat().st_size for file in found}
        return {file: size for file, size in sizes.items() if size}  # an empty journal: not begun


def _judging(recipe: str | None) -> object:
    return yaml.safe_load(recipe or "{}").get("judging")
