"""Completion of recipes and run folders in the shell: `p2r --install-completion`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import p2r

# The folder of `p2r.runs.recipe`. Importing that module takes longer than a key press may take.
RECIPES = Path(p2r.__file__).parent / "runs" / "recipes"
MOST = 200  # folders to look into, so that a key press takes no time


def complete_recipes(incomplete: str) -> list[str]:
    """Return the recipes that begin like the typed text; after NAME+ also the presets."""
    base, plus, _ = incomplete.rpartition("+")
    folder = RECIPES / "presets" if plus else RECIPES
    names = [f"{base}{plus}{path.stem}" for path in folder.glob("*.yaml")]
    return sorted(name for name in names if name.startswith(incomplete))


def complete_runs(incomplete: str) -> list[str]:
    """Return the run folders that begin like the typed text, here and in `runs/`."""
    return sorted(name for name in map(str, _runs(incomplete)) if name.startswith(incomplete))


def _runs(incomplete: str) -> Iterator[Path]:
    parents = dict.fromkeys([Path(incomplete or ".").parent, Path(incomplete or "."), Path("runs")])
    left = MOST
    for parent in filter(Path.is_dir, parents):
        for folder in parent.iterdir():
            if (left := left - 1) < 0:
                return
            if (folder / "recipe.yaml").is_file():
                yield folder
