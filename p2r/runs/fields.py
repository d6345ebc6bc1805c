"""The base of the sections of a recipe, and the types of their keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, ValidationInfo

from p2r.runs.plugins import check_engine

Reward = Literal["perception", "reasoning", "length"]
Credit = Literal[
    "process", "shared", "outcome", "decoupled", "temporal", "turn", "critic", "critic_process"
]


def recipe_folder(info: ValidationInfo) -> Path | None:
    """Return the folder of the recipe file, where relative paths of prompt files may start."""
    return (info.context or {}).get("folder")


EngineName = Annotated[str, AfterValidator(check_engine)]
Scheduler = Literal["cosine", "linear", "constant", "cosine_with_restarts", "polynomial"]
Share = Annotated[float, Field(gt=0, le=1)]
Ends = tuple[NonNegativeInt, NonNegativeInt]


class Section(BaseModel):
    """Base of all sections: a misspelt key is refused. The text below a key is its description."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
