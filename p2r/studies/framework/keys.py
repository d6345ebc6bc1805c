"""Names for models and answers, made from everything that they depend on.

Equal settings give equal names. So studies share models and answers, and a changed setting never
mixes with old results.
"""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatchcase
from typing import Any

from p2r.files.user_code import source_of
from p2r.judges import sources_of
from p2r.runs.ownership import owners
from p2r.runs.recipe import Recipe
from p2r.video.changes import runs_user_code

# The name already contains the model that a training starts from, so its key is left out. The arms
# of the demo are other trainings.
_LEFT_OUT = ("models.base", "demo.*")


def stage_settings(recipe: Recipe, stage: str) -> dict[str, Any]:
    """Return the values of a recipe that change the result of a stage, except default values.

    A key that a later version of p2r adds has its default value, so it does not change the result.
    The settings include the source of the user's code: reward functions in RL, changes of frames in
    evaluation, judges in both. Questions that RL holds out for its validation are not
    trained on, so their number is a setting too.
    """
    given = _flatten(recipe.model_dump(mode="json", exclude_defaults=True))
    chosen = {
        key: value
        for key, value in given.items()
        if stage in owners(key) and not any(fnmatchcase(key, left) for left in _LEFT_OUT)
    }
    if stage == "rl" and recipe.rl.reward is not None:
        chosen["rl.reward"] = source_of(recipe.rl.reward)
    if stage == "rl" and recipe.rl.validate_every:
        chosen["rl.validate_questions"] = recipe.rl.validate_questions
    if stage in ("rl", "eval"):
        judge = recipe.rl.judge if stage == "rl" else recipe.eval.judge
        if sources := sources_of(judge):
            chosen["source of judge"] = sources
    if stage == "eval" and runs_user_code(recipe.video.eval_change):
        changes = filter(runs_user_code, recipe.video.eval_change.split("+"))
        chosen["source of video.eval_change"] = [source_of(change) for change in changes]
    return chosen


def digest(*parts: Any) -> str:
    """Return 8 hex digits that identify values that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
