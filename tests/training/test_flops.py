"""The counted arithmetic is what PyTorch counts while the tiny models run."""

from __future__ import annotations

import pytest
import torch
from small import VIDEO
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from p2r import data
from p2r.families import read_sizes
from p2r.training.flops import (
    StepShape,
    decoder_flops,
    head_flops,
    step_flops,
    tower_flops,
    tower_pairs,
)
from p2r.video import FrameCache

pytest_plugins = ["small_fixtures"]


def counted(call) -> int:
    """Return the FLOPs of a call; attention as matrix products, which PyTorch counts everywhere."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize("family", ["model_folder", "qwen3_folder"])
def test_a_forward_and_a_backward_pass(request, media, questions, family):
    folder = request.getfixturevalue(family)
    config = AutoConfig.from_pretrained(folder).to_dict()
    sizes, vision = read_sizes(config), config["vision_config"]
    question = questions[0]
    frames = data.read_frames(question, root=media, cache=FrameCache(None), **VIDEO)
    batch = data.encode_prompts(data.load_processor(folder), [question], [frames], "brief")
    inputs = data.to_model_inputs(batch)
    grids = [tuple(grid) for grid in inputs["video_grid_thw"].tolist()]
    model = data.load_model(folder)
    pixels = inputs["pixel_values_videos"]
    seen = counted(lambda: model.model.visual(pixels, grid_thw=inputs["video_grid_thw"]))
    assert tower_flops(sizes, vision, grids) == seen
    tokens = inputs["input_ids"].numel()
    expected = seen + decoder_flops(sizes, tokens, tokens**2) + head_flops(sizes, tokens)
    with torch.no_grad():
        forward = counted(lambda: model(**inputs))
    assert forward == pytest.approx(expected, rel=2e-3)  # the rest: the angles of rotations
    both = counted(lambda: model(**inputs).logits.sum().backward())
    assert both == pytest.approx(3 * expected, rel=0.05)  # pixels have no gradient


def test_windows_of_the_tower():
    vision = {"depth": 4, "spatial_merge_size": 2, "patch_size": 14}
    assert tower_pairs(vision, [(2, 4, 4)]) == 4 * 2 * 16**2
    windows = {"window_size": 112, "fullatt_block_indexes": [3]}
    # One frame of 10 × 8 patches: a window of 8 × 8 and one of 2 × 8.
    assert tower_pairs(vision | windows, [(1, 10, 8)]) == 80**2 + 3 * (64**2 + 16**2)


def test_a_frozen_tower_and_no_reference_save_work(model_folder):
    config = AutoConfig.from_pretrained(model_folder).to_dict()
    sizes, vision = read_sizes(config), config["vision_config"]
    shape = {"prompts": 2, "group": 4, "prompt": 50, "completion": 10, "grid": (2, 4, 4)}
    whole = step_flops(sizes, vision, StepShape(**shape))
    frozen = step_flops(sizes, vision, StepShape(**shape, frozen=True, reference=False))
    seen = 2 * tower_flops(sizes, vision, [(2, 4, 4)])
    assert frozen["generate"] == whole["generate"] and frozen["log_probs"] == 0
    assert whole["backward"] - frozen["backward"] == 3 * seen
    again = step_flops(sizes, vision, StepShape(**shape, recompute=True))
    assert again["backward"] * 3 == whole["backward"] * 4
