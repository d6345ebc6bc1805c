"""Models: names, what is loaded, attention, a hub that does not answer."""

import time
from pathlib import Path

import pytest
import torch

from p2r import data
from p2r.errors import EngineError
from p2r.runs.recipe import Models

pytest_plugins = ["small_fixtures"]


def test_models_are_named_by_folder_and_read_only_from_safetensors(model_folder, tmp_path: Path):
    assert data.resolve_model(model_folder) == str(model_folder)
    with pytest.raises(EngineError, match="no embedded model 'playground/none'"):
        data.load_model("playground/none")
    with pytest.raises(EngineError, match="no model folder"):
        data.load_processor(tmp_path / "absent")
    assert data.resolve_model("Qwen/Qwen2.5-VL-7B-Instruct") == "Qwen/Qwen2.5-VL-7B-Instruct"
    (tmp_path / "config.json").write_text((model_folder / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(EngineError, match="cannot load model"):
        data.load_model(tmp_path)


@pytest.mark.parametrize(
    ("installed", "settings", "chosen"),
    [
        (True, {}, "flash_attention_2"),
        (True, {"dtype": "float32"}, "sdpa"),  # flash attention has no float32
        (True, {"attention": "sdpa"}, "sdpa"),
        (False, {}, "sdpa"),
        (False, {"attention": "flash_attention_2"}, "flash_attention_2"),
    ],
)
def test_attention_is_flash_where_it_is_installed(monkeypatch, installed, settings, chosen):
    monkeypatch.setattr(data.models, "is_flash_attn_2_available", lambda: installed)
    assert data.choose_attention(Models(base="b", teacher="t", **settings)) == chosen


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "m.txt").write_text("x")
    with pytest.raises(EngineError, match=r"m\.txt is a file: give the folder of a model"):
        data.load_model(tmp_path / "m.txt")


def test_a_hub_that_cannot_be_reached_is_an_error_at_once(monkeypatch):
    from huggingface_hub import constants
    from transformers import AutoModelForImageTextToText, AutoProcessor  # noqa: F401  # not timed

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for offline in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        for load in (data.load_processor, data.load_model):
            begun = time.monotonic()
            with pytest.raises(EngineError, match=r"me/absent.*the hub cannot be reached"):
                load("me/absent")
            assert time.monotonic() - begun < 20  # retries would take minutes
