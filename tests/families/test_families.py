"""The families: each is found by its file, sizes follow from configs, plans need no library."""

from __future__ import annotations

import subprocess
import sys

import pytest

from p2r.errors import EngineError
from p2r.families import (
    all_families,
    family_of_processor,
    find_family,
    published_configs,
    read_sizes,
)
from p2r.families.sizes import most_moment_tokens, most_vision_tokens

pytest_plugins = ["small_fixtures"]


def test_every_family_is_found_by_its_model_type():
    assert list(all_families()) == ["qwen2_5_vl", "qwen3_vl"]
    for name, family in all_families().items():
        assert find_family(name) is family
        assert all(config["model_type"] == name for config in family.published.values())


def test_a_model_of_another_type_is_refused_with_the_known_ones():
    with pytest.raises(EngineError, match=r"'m' has .* is 'llava'; .* 'qwen2_5_vl' .* 'qwen3_vl'"):
        find_family("llava", "m")
    with pytest.raises(EngineError, match=r"its processor is a str; .* or Qwen3VLProcessor"):
        family_of_processor("text", "m")


def test_qwen3_vl_writes_the_times_of_a_video_into_the_prompt():
    old, new = (
        read_sizes(published_configs()[f"Qwen/Qwen{name}-Instruct"])
        for name in ("2.5-VL-7B", "3-VL-8B")
    )
    assert (old.factor, new.factor) == (28, 32)
    assert most_vision_tokens(old, 16, 128 * 28 * 28) == 1024
    assert most_vision_tokens(new, 16, 128 * 32 * 32) == 1024
    assert (most_moment_tokens(old, 15), most_moment_tokens(new, 15)) == (0, 80)


def test_plans_import_no_library_of_models():
    code = (
        "import sys; from p2r.families import published_configs, read_sizes; "
        "list(map(read_sizes, published_configs().values())); "
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["model_folder", "qwen3_folder"])
def test_an_exported_processor_limits_the_pixels_of_each_frame(folder, request):
    """Qwen3-VL's own limit is on all frames together, so a short clip could have larger frames."""
    import numpy as np

    from p2r import data
    from p2r.export.model import _set_pixels
    from p2r.runs.recipe import load_recipe

    processor = data.load_processor(request.getfixturevalue(folder))
    _set_pixels(processor, load_recipe("tiny").video)  # at most 8 frames of 56 × 56 pixels
    for count in (2, 8):
        clip = np.zeros((count, 112, 112, 3), dtype=np.uint8)
        made = processor.video_processor([clip], return_metadata=False)
        assert made["video_grid_thw"].tolist() == [[count // 2, 8, 8]]
