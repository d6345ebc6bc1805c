"""Patches of other libraries: `import p2r` applies none, each works, each is still needed.

`tests/helpers/patches_child.py` makes the checks in one fresh interpreter, where nothing is
imported yet.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
CHILD = Path(__file__).parents[1] / "helpers" / "patches_child.py"
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm is not installed"
)


@pytest.fixture(scope="module")
def found() -> dict:
    """The results of all checks."""
    done = subprocess.run(
        [sys.executable, str(CHILD)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # no threads: the checks fork
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_p2r_changes_nothing(found):
    for moment in ("p2r", "trl alone"):  # before and after the libraries are imported
        assert found[moment]["hooks"] and found[moment]["environment"], found[moment]
    assert found["trl alone"]["flag"]


def test_importing_p2r_imports_no_heavy_library(found):
    assert found["p2r"]["heavy"] == []


def test_torchvision_imports_after_the_patch_and_the_hook_removes_itself(found):
    assert found["torchvision"] == {"before": 1, "after": 0}


def test_the_torchvision_patch_is_needed_exactly_where_torchvision_cannot_be_imported(found):
    """A whole torchvision stays as it is. If it imports here by itself, the patch can go."""
    alone = found["torchvision alone"]
    assert alone["whole"] == [False, False]
    assert alone["declared"] == alone["needed"]


@pytest.mark.skipif(
    importlib.util.find_spec("mistral_common") is None, reason="mistral-common is not installed"
)
@pytest.mark.parametrize("patched", [True, False])
def test_a_processor_imports_mistral_common_only_without_the_patch(patched, found):
    """If the case without the patch fails, transformers no longer needs the patch."""
    assert found[f"processor {patched}"] == {"kind": "Qwen2_5_VLProcessor", "mistral": not patched}


@needs_vllm
def test_trl_imports_vllm_without_the_patch(found):
    """If this fails, TRL no longer imports vLLM unasked and the patch can go."""
    assert "TRL imports vLLM" in found["trl alone"]["said"]


def test_trl_imports_no_vllm_with_the_patch_and_would_shard_a_reference_model_without_its_weights(
    found,
):
    """If this fails, TRL prepares the reference with accelerate and the patch can go."""
    assert found["trl"] == {
        "vllm": False,
        "code": {"fully_shard(model": True, "fsdp2_prepare_model": False, "state_dict": False},
        "prepared by": "p2r.patches.trl_fsdp2",
    }


def test_fsdp2_in_bfloat16_returns_float32_log_probs(found):
    """If accelerate alone sets no output dtype, the patch can go."""
    assert found["accelerate"] == {"alone": "torch.bfloat16", "patched": "None"}


def test_gradio_starts_without_stubs_and_mcp(found):
    assert found["gradio"] == {
        "mcp": False,
        "stubs by": "p2r.patches.gradio_start",
        "hooks": 0,
        "server": False,
    }


def test_the_gradio_patch_is_still_needed(found):
    """If this fails, Gradio starts without that work and the patch can go."""
    alone = found["gradio alone"]
    assert alone["stubs"] and alone["mcp"] == (importlib.util.find_spec("mcp") is not None)
