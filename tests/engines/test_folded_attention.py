"""The engine transformers: keys are not copied for the heads that share them."""

from __future__ import annotations

import pytest
import torch
from small import VIDEO

from p2r.engines import Request, folded_attention
from p2r.engines.folded_attention import ATTENTION, attend_folded
from p2r.engines.transformers import TransformersEngine
from p2r.video import sample_frames

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]


def set_attention(decoder, kind):
    for module in decoder.modules():
        if hasattr(module, "config"):
            module.config._attn_implementation = kind


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3"])
def test_folded_attention_is_sdpa(
    family, model_folder, qwen3_folder, media, questions, monkeypatch
):
    """Prompts of different lengths need a mask. Both kinds of attention give the same scores."""
    folder = model_folder if family == "qwen2.5" else qwen3_folder
    engine = TransformersEngine(str(folder), batch_size=2, style="brief")
    masks = []

    def watched(attend, query, key, value, mask):
        masks.append(mask)
        return attend_folded(attend, query, key, value, mask)

    monkeypatch.setattr(folded_attention, "attend_folded", watched)
    requests = [
        Request(each.id, each, sample_frames(media / each.path, **VIDEO) if each.path else None)
        for each in (questions[0], questions[-1])
    ]
    inputs = engine._encode(requests)
    assert inputs["attention_mask"].min() == 0, "one prompt is longer"
    decoder = engine.model.base_model.language_model
    assert decoder.config.num_attention_heads > decoder.config.num_key_value_heads
    assert decoder.config._attn_implementation == ATTENTION
    scores = []
    for kind in (ATTENTION, "sdpa"):
        set_attention(decoder, kind)
        with torch.inference_mode():
            found = engine.model.generate(
                **inputs, do_sample=False, max_new_tokens=6, min_new_tokens=6,
                output_scores=True, return_dict_in_generate=True,
            )  # fmt: skip
        scores.append(torch.stack(found.scores))
    torch.testing.assert_close(*scores, atol=1e-5, rtol=0)
    assert masks and all(mask is not None for mask in masks)
