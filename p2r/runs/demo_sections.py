"""The sections of a recipe about the playground and the demo."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, ValidationError, ValidationInfo, field_validator

from p2r.runs.fields import Section
from p2r.runs.rl_section import RlSettings

# Folders and names of results that a run has besides its RL trainings.
RESERVED = ("base", "cases", "data", "eval", "probes", "results", "sft", "studies")


class DemoSettings(Section):
    """What `p2r demo` compares."""

    arms: dict[str, dict[str, Any]] = Field(
        default_factory=lambda: {"grpo": {"credit": "outcome"}, "pa_grpo": {"credit": "process"}}
    )
    """The RL trainings: a name, which is also the folder in the run, and the keys of `rl` that
    this training changes."""

    @field_validator("arms")
    @classmethod
    def _check_arms(
        cls, arms: dict[str, dict[str, Any]], info: ValidationInfo
    ) -> dict[str, dict[str, Any]]:
        """Refuse other names and wrong keys. Make the paths of reward functions absolute."""
        found = {}
        for name, changes in arms.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED:
                raise ValueError(
                    f"{name!r} cannot be the name of an arm: use small letters, digits and _, "
                    f"and not one of these names: {', '.join(RESERVED)}"
                )
            try:
                checked = RlSettings.model_validate(changes, context=info.context)
            except ValidationError as error:
                fault = error.errors()[0]
                key = ".".join(map(str, fault["loc"]))
                raise ValueError(f"arm {name!r}: rl.{key}: {fault['msg']}") from error
            found[name] = changes | ({"reward": checked.reward} if changes.get("reward") else {})
        return found


class PlaygroundSettings(Section):
    """Scenes per split of the synthetic world. The splits share no seed."""

    train: NonNegativeInt = 0
    """Scenes for generation, SFT and RL."""
    validation: NonNegativeInt = 0
    """Scenes for trying settings."""
    test: NonNegativeInt = 0
    """Held-out scenes for evaluation."""
    ambiguous: NonNegativeInt = 0
    """Scenes for the answer "cannot tell": two in three hide what the question needs (generation
    2)."""
    new_domain: NonNegativeInt = 0
    """Scenes of colours, shapes and signs that no other split has (generation 2)."""
    long: NonNegativeInt = 0
    """Clips of eight scenes, 32 s (generation 2)."""
    false_notes: NonNegativeInt = 0
    """Scenes with a note that contradicts the video (generation 2)."""
    generation: Literal[1, 2] = 1
    """The world. Generation 1 goes with the models `playground/NAME`, 2 with
    `playground/second/NAME`."""

    def sizes(self) -> dict[str, int]:
        """Return the number of scenes of each split that has any."""
        sizes = {name: size for name, size in self if name != "generation"}
        return {name: size for name, size in sizes.items() if size}
