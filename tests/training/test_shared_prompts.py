"""Shared prompts: a video is decoded, encoded and seen once per group; results are the same."""

from collections import Counter

import numpy as np
import pytest
import torch
from small_rl import FULL, generation, make_trainer, scripted
from test_grpo import logps
from torch.testing import assert_close

from p2r import data
from p2r.training.trainer import ProcessAwareGRPOTrainer
from p2r.video import Frames

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]


def test_a_video_is_opened_encoded_and_seen_once_for_all_its_rollouts(
    model_folder, media, questions, tmp_path
):
    asked, group = questions[:3], 4
    trainer, _ = make_trainer(
        ProcessAwareGRPOTrainer, model_folder, media, asked, tmp_path,
        f"rl.group_size={group}", f"rl.micro_batch={group}",
    )  # fmt: skip
    opened, encoded, seen = Counter(), Counter(), []
    frames_of, processor = trainer.frames_of, trainer.processing_class
    video_processor, tower = processor.video_processor, trainer.model.base_model.visual
    see = tower.forward

    def open_frames(question):
        opened[question.id] += 1
        return frames_of(question)

    def encode(videos, **settings):
        encoded.update(video.shape for video in videos)
        return type(video_processor).__call__(video_processor, videos, **settings)

    def count(patches, *arguments, **settings):
        seen.append(len(patches))
        return see(patches, *arguments, **settings)

    trainer.frames_of, tower.forward = open_frames, count
    processor.video_processor = Wrapped(video_processor, encode)
    trainer.model.train()
    micro_batch = trainer._prepare_inputs(generation(asked, group))
    assert opened == {question.id: 1 for question in asked}
    assert encoded.total() == 3
    patches = {id(row): len(row["pixel_values_videos"]) for row in trainer.step.vision}
    assert len(patches) == 3 and len(trainer.step.vision) == 3 * group
    assert seen == [sum(patches.values())], "only sampling; the reference has its own tower"
    trainer.current_gradient_accumulation_steps = 3
    trainer.compute_loss(trainer.model, micro_batch)
    distinct = {id(row): len(row["pixel_values_videos"]) for row in micro_batch["vision"]}
    assert seen[1:] == [sum(distinct.values())]


class Wrapped:
    """A video processor that counts its calls."""

    def __init__(self, inner, call):
        self.inner, self.call = inner, call

    def __call__(self, videos, **settings):
        return self.call(videos, **settings)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_positions_of_a_response_follow_its_prompts_last_token_after_a_long_video(
    model_folder, media, questions, tmp_path
):
    """In a 20-minute video, the last frames have later positions than the text that follows."""
    trainer, _, _ = scripted(model_folder, media, questions[-1:], tmp_path, [FULL, FULL])
    noise = np.random.default_rng(0).integers(0, 255, (8, 56, 56, 3), dtype=np.uint8)
    times = [150.0 * i for i in range(8)]
    frames = Frames(noise, times, list(range(8)), 1 / 150, 1200.0, 8, "pyav", "x.mp4")
    encoded = data.encode_prompts(trainer.processing_class, questions[:1], [frames], "brief")
    vision = {key: encoded[key][0] for key in data.VISION_KEYS}
    response = trainer._tokenizer(FULL, return_tensors="pt")["input_ids"]
    prompt = encoded["input_ids"]
    batch = {
        "prompt_ids": prompt.repeat(2, 1),
        "prompt_mask": torch.ones_like(prompt).repeat(2, 1),
        "completion_ids": response.repeat(2, 1),
        "completion_mask": torch.ones_like(response).repeat(2, 1),
    }
    backbone = trainer.model.base_model
    types = encoded["mm_token_type_ids"]
    places, _ = backbone.get_rope_index(
        prompt, types, **{key: vision[key] for key in ("video_grid_thw", "second_per_grid_ts")}
    )
    assert places.max() > places[..., -1].max() + 100
    shared = logps(trainer, batch, [vision] * 2)
    rest = torch.nn.functional.pad(types, (0, response.size(1)))
    ids = torch.cat([prompt, response], 1)
    with torch.no_grad():
        whole = trainer.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=rest,
            **{key: value for key, value in vision.items() if value is not None},
        ).logits[:, prompt.size(1) - 1 : -1]
    expected = whole.log_softmax(-1).gather(-1, response[..., None])[..., 0]
    assert_close(shared, expected.expand(2, -1), atol=1e-5, rtol=0)
