"""vLLM's rotary positions, made those of transformers.

vLLM 0.31 and transformers 5.17 place the tokens of a Qwen2.5-VL prompt differently: transformers
takes whole seconds per temporal patch, where vLLM takes fractions, and text after a video goes on
from the frame's longer side, where vLLM goes on from the video's last moment. A model that was
trained, or is being trained, under one of them is another policy under the other. So vLLM asks
transformers, whose forward pass trains the model.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from p2r.patches.imports import change_on_import

MODULE = "vllm.model_executor.models.qwen2_5_vl"
KINDS = {"image": 1, "video": 2}


def install() -> None:
    """Align vLLM's Qwen2.5-VL in this process: at once if it is loaded, else when it is."""
    change_on_import(MODULE, align)


def align(module: Any) -> None:
    """Give the model class of vLLM's module the positions of transformers."""
    module.Qwen2_5_VLForConditionalGeneration.get_mrope_input_positions = positions


def positions(model: Any, input_tokens: list[int], mm_features: list[Any]) -> tuple[Any, int]:
    """The positions (3, L) of a prompt and what to add to a later token's index.

    `model` is vLLM's; `mm_features` are its records of the prompt's images and videos.
    """
    import torch
    from transformers import Qwen2_5_VLModel

    features = sorted(mm_features, key=lambda feature: feature.mm_position.offset)
    types = torch.zeros(len(input_tokens), dtype=torch.int)
    found: dict[str, list[Any]] = {"image": [], "video": []}
    seconds = []
    for feature in features:
        place = feature.mm_position
        types[place.offset : place.offset + place.length] = KINDS[feature.modality]
        found[feature.modality].append(feature.data[f"{feature.modality}_grid_thw"].data)
        if feature.modality == "video":
            # As `p2r.data` hands it to the model: 0.9999999 would be no second.
            seconds.append(round(float(feature.data["second_per_grid_ts"].data), 6))
    grids = {kind: torch.stack(grid) if grid else None for kind, grid in found.items()}
    like = SimpleNamespace(
        config=model.config,
        get_vision_position_ids=partial(Qwen2_5_VLModel.get_vision_position_ids, None),
    )
    places, _ = Qwen2_5_VLModel.get_rope_index(
        like,
        torch.tensor([input_tokens]),
        types[None],
        image_grid_thw=grids["image"],
        video_grid_thw=grids["video"],
        second_per_grid_ts=torch.tensor(seconds) if seconds else None,
    )
    # What is generated goes on from the prompt's last token, in transformers' sampling and forward.
    # (Its own delta goes on from the largest position, which may be a moment of the video.)
    return places[:, 0], int(places[0, 0, -1]) + 1 - len(input_tokens)
