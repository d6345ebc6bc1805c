"""One vision pass per forward pass: the same outputs, and one call of the tower for any batch."""

from __future__ import annotations

import pytest
import torch
from small import VIDEO

from p2r import data
from p2r.training.shared_prompts import backbone_of
from p2r.training.vision_pass import unify_vision_passes
from p2r.video import FrameCache

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow
BATCHES = {  # questions of the fixture by place: videos, image, text only
    "video, image and text": [0, 2, 3, 4],
    "videos": [0, 1],
    "image": [3],
    "text": [4],
}


@pytest.fixture(scope="module", params=["model_folder", "qwen3_folder"])
def folder(request):
    """The tiny model of each family."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def models(folder):
    """The model, and the same model with one vision pass that counts the calls of its tower."""
    ordinary, unified = (data.load_model(folder).train() for _ in range(2))
    unify_vision_passes(unified)
    unified.calls = 0

    def count(*_):
        unified.calls += 1

    backbone_of(unified).visual.register_forward_hook(count)
    return ordinary, unified


@pytest.fixture
def batch(request, folder, media, questions):
    processor, cache = data.load_processor(folder), FrameCache(None)
    examples = [
        data.encode_example(
            processor,
            questions[place],
            data.read_frames(questions[place], root=media, cache=cache, **VIDEO),
            "two",
            "brief",
        )
        for place in BATCHES[request.param]
    ]
    return data.collate_examples(examples, processor.tokenizer.pad_token_id)


@pytest.mark.parametrize("batch", [*BATCHES], indirect=True)
def test_outputs_and_gradients_are_the_same_with_one_call(batch, models):
    ordinary, unified = models
    unified.calls = 0
    for model in models:
        model.zero_grad()
        model(**batch).loss.backward()
    assert unified.calls == 1
    for (name, one), (_, other) in zip(
        ordinary.named_parameters(), unified.named_parameters(), strict=True
    ):
        assert other.grad is not None, f"{name} has no gradient: DDP would wait for it"
        expected = torch.zeros_like(one) if one.grad is None else one.grad
        torch.testing.assert_close(other.grad, expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("batch", ["video, image and text", "text"], indirect=True)
def test_sampled_tokens_are_the_same_and_only_the_prompt_calls_the_tower(batch, models):
    unified = models[1]
    del batch["labels"]
    unified.calls = 0
    with torch.no_grad():
        said = [
            model.eval().generate(**batch, do_sample=False, max_new_tokens=4, min_new_tokens=4)
            for model in models
        ]
    assert torch.equal(*said)
    assert unified.calls == 1
