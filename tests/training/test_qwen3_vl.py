"""Qwen3-VL through every stage: SFT, RL with the video in the loss, sampling, adapters.

The tests of Qwen2.5-VL that are imported here run again with this module's `model_folder`.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from shared_folder import make_once
from small import VIDEO, read_lines
from small_rl import FULL, scripted
from test_grpo import (  # noqa: F401
    logps,
    sampled,
    test_permuting_the_videos_breaks_the_agreement,
    test_policy_and_reference_agree_at_learning_rate_0_on_mixed_media,
    train,
)
from test_tuning import LORA, assert_loads_like_any_other, changed, rl
from torch.testing import assert_close

from p2r import data
from p2r.engines import Request, Sampling
from p2r.engines.transformers import TransformersEngine
from p2r.template import parse
from p2r.video import FrameCache

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]


@pytest.fixture(scope="module")
def model_folder(qwen3_folder):
    return qwen3_folder


@pytest.fixture(scope="module")
def taught_folder(qwen3_folder, media, questions, tmp_path_factory):
    """The tiny Qwen3-VL after SFT, see `small_fixtures.taught_folder`."""
    from small_fixtures import teach  # not before pytest has loaded it as a plugin

    make = partial(teach, model=qwen3_folder, media=media, questions=questions)
    return make_once(tmp_path_factory, "qwen3-taught", make) / "model"


def test_sft_learns_the_template_and_its_model_answers_through_the_engine(
    taught_folder, media, questions
):
    losses = [row["loss"] for row in read_lines(taught_folder.parent / "metrics.jsonl")]
    assert losses[-1] < losses[0] / 5
    cache = FrameCache(None)
    asked = [
        Request(q.id, q, data.read_frames(q, root=media, cache=cache, **VIDEO)) for q in questions
    ]
    found = []
    for size in (5, 1):  # together, then one by one
        engine = TransformersEngine(taught_folder, dtype="float32", style="brief", batch_size=size)
        found.append({c.key: c for c in engine.generate(asked, Sampling(max_tokens=60))})
    assert found[0] == found[1]
    assert parse(found[0]["long"].text).ok
    prompt = data.encode_prompts(engine.processor, [questions[0]], [asked[0].frames], "brief")
    assert found[0]["long"].prompt_tokens == prompt["input_ids"].size(1)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_log_probs_are_those_of_the_models_own_forward_pass(
    checkpointing, model_folder, media, questions, tmp_path
):
    """Two responses of different length to one video: with shared prompts, and without."""
    trainer, batch, _ = scripted(model_folder, media, questions, tmp_path, [FULL, "two"])
    trainer.args.gradient_checkpointing = checkpointing
    ours = logps(trainer, batch, batch["vision"])
    model = data.load_model(model_folder)  # as transformers has it
    for row, response in enumerate(trainer.step.completions):
        prompt = trainer.step.prompts[row]
        vision = {key: value for key, value in prompt.vision.items() if value is not None}
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([prompt.ids + response]),
                mm_token_type_ids=torch.tensor([prompt.types + [0] * len(response)]),
                **vision,
            ).logits[0, len(prompt.ids) - 1 : -1]
        own = logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None])[:, 0]
        assert_close(ours[row, : len(response)], own, atol=1e-5, rtol=0)


def test_adapters_on_decoder_and_tower_become_weights(taught_folder, media, questions, tmp_path):
    trained = rl(taught_folder, media, questions, tmp_path / "rl", *LORA)
    assert_loads_like_any_other(trained)
    assert changed(taught_folder, trained) == {"visual", "layers"}


def test_20_steps_of_pa_grpo_raise_the_reward(taught_folder, media, tmp_path):
    train(tmp_path, taught_folder, media, "rl.steps=20", "rl.save_steps=20", "rl.group_size=4")
    rewards = [row["reward"] for row in read_lines(tmp_path / "metrics.jsonl")]
    assert len(rewards) == 20
    assert sum(rewards[-5:]) / 5 > sum(rewards[:2]) / 2 + 0.5, rewards
