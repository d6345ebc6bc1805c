"""The record of a model family: everything in which families differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from p2r.families.sizes import Architecture


@dataclass(frozen=True)
class Family:
    """A family of video models of transformers.

    `model_type` is the key of that name in the `config.json` of its models, and `processor` the
    class of their processor. `published` are configs of models by hub id, with the keys that sizes
    depend on. `sizes` makes the `Architecture` of a config.
    `decoder_layers` and `vision_layers` are regular expressions for the names of the linear layers
    that get adapters. `tower` is the name of the vision tower in the model.
    `video_fields` are the model inputs with one value per video, besides pixels and grid.
    `limits_whole_video` tells whether the size limits of the video processor count the pixels of
    all frames together.
    """

    name: str
    model_type: str
    processor: str
    sizes: Callable[[Mapping[str, Any]], Architecture]
    published: Mapping[str, Mapping[str, Any]]
    decoder_layers: str
    vision_layers: str
    tower: str = "model.visual"
    video_fields: tuple[str, ...] = ()
    limits_whole_video: bool = False

    def tower_of(self, model: Any) -> Any:
        """Return the vision tower of a model without adapters."""
        return model.get_submodule(self.tower)
