"""Settings of vLLM that need no vLLM: how many GPUs share a model, and a text model as judge."""

import json

import pytest
import torch

from p2r.cli.serve import JUDGE_PORT, LOCAL_JUDGE
from p2r.engines import vllm_runtime
from p2r.engines.vllm_runtime import count_gpus, share_of_heads, text_settings, vllm_settings
from p2r.runs.recipe import load_recipe

TEACHER = "playground/teacher"
MACHINES = [
    (8, 28, 4),  # Qwen2.5-VL-7B
    (8, 40, 8),  # 32B
    (8, 64, 8),  # 72B
    (4, 16, 4),  # 3B
    (3, 28, 2),
    (1, 28, 1),
    (0, 28, 1),
    (8, None, 1),
]


@pytest.mark.parametrize(("gpus", "heads", "share"), MACHINES)
def test_the_gpus_that_share_a_model_divide_its_heads(gpus, heads, share):
    assert share_of_heads(gpus, heads) == share


def test_tensor_parallelism_comes_from_the_machine_unless_it_is_given(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 28}))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert count_gpus("auto", tmp_path) == 4
    assert count_gpus(2, tmp_path) == 2
    assert count_gpus("auto", TEACHER) in (1, 2, 4)
    recipe = load_recipe("tiny", ["vllm.tensor_parallel=3"])
    assert vllm_settings(recipe, TEACHER)["tensor_parallel_size"] == 3


def test_a_judge_is_a_text_model_without_settings_for_media(monkeypatch):
    monkeypatch.setattr(vllm_runtime, "_attention_heads", lambda model: 28)
    settings = text_settings(load_recipe("7b"), LOCAL_JUDGE)
    assert settings["model"] == LOCAL_JUDGE and settings["max_model_len"] == 8192
    assert not any("mm" in key for key in settings)


def test_the_preset_asks_the_judge_that_serve_starts():
    recipe = load_recipe("7b+local-judge")
    for judge in (recipe.filter.judge, recipe.rl.judge, recipe.eval.judge):
        assert judge == f"server:http://127.0.0.1:{JUDGE_PORT}/v1#{LOCAL_JUDGE}"
