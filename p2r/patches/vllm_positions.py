"""Give vLLM the rotary positions of transformers.

Library: vLLM 0.31.
Reason: vLLM 0.31 and transformers 5.17 number the positions of a Qwen2.5-VL prompt differently.
transformers uses whole seconds per temporal patch, vLLM fractions of a second. After a video,
transformers continues from the longer side of the frame, vLLM from the last moment of the video. A
model trained with one numbering is a different policy under the other. With this patch vLLM asks
transformers, whose forward pass trains the model.
Can go when: vLLM's positions equal those of transformers for every prompt of the test.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from p2r.patches.on_import import after_import

MODULE = "vllm.model_executor.models.qwen2_5_vl"
KINDS = {"image": 1, "video": 2}


def apply() -> None:
    """Change vLLM's Qwen2.5-VL in this OS process, now or when it is imported."""
    after_import(MODULE, align)


def align(module: Any) -> None:
    """Replace the position function of vLLM's model class."""
    module.Qwen2_5_VLForConditionalGeneration.get_mrope_input_positions = positions


def positions(model: Any, input_tokens: list[int], mm_features: list[Any]) -> tuple[Any, int]:
    """Return the positions (3, L) of a prompt, and the offset of every later token.

    The position of a later token is its index plus the offset. `model` is vLLM's model;
    `mm_features` are vLLM's records of the images and videos in the prompt.
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
            # As `p2r.data` passes it to the model: 0.9999999 would count as zero seconds.
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
    # Generated tokens continue from the prompt's last token, as in transformers' forward pass.
    # (transformers' own delta continues from the largest position, which may be in the video.)
    return places[:, 0], int(places[0, 0, -1]) + 1 - len(input_tokens)
