"""A vision tower that does not change sees each prompt once; its features are those of pixels."""

from __future__ import annotations

import pytest
import torch
from small import VIDEO
from small_rl import make_trainer
from torch.testing import assert_close

from p2r import data
from p2r.files.disk_cache import DiskCache
from p2r.records import Medium, more_media
from p2r.training import step as pa_grpo
from p2r.training.perception_loss import mask_vision
from p2r.training.shared_prompts import backbone_of
from p2r.training.step import Step
from p2r.training.tuning import freeze_vision
from p2r.training.vision_once import ConstantTower
from p2r.training.vision_pass import unify_vision_passes
from p2r.training.vision_windows import batch_windows
from p2r.video import FrameCache

pytest_plugins = ["small_fixtures"]


@pytest.fixture(params=["model_folder", "qwen3_folder"])
def folder(request):
    """The tiny model of each family."""
    return request.getfixturevalue(request.param)


def encode(folder, media, questions) -> data.Batch:
    """Encode prompts about a video, an image, text, and an image with a video."""
    both = {"id": "both", "meta": more_media([Medium(path="short.mp4", data_type="video")])}
    asked = [questions[0], questions[3], questions[4], questions[3].model_copy(update=both)]
    cache = FrameCache(None)
    frames = [data.read_frames(q, root=media, cache=cache, **VIDEO) for q in asked]
    return data.encode_prompts(data.load_processor(folder), asked, frames, "brief")


def rows_of(batch: data.Batch) -> list[data.Batch]:
    return [{key: batch[key][row] for key in data.VISION_KEYS} for row in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("unified", [False, True])
def test_features_in_place_of_pixels_give_the_same_outputs(
    folder, media, questions, unified, tmp_path
):
    model, batch = data.load_model(folder), encode(folder, media, questions)
    batch_windows(model)
    if unified:
        unify_vision_passes(model)
    tokens = {key: value for key, value in batch.items() if key not in data.VISION_KEYS}
    expected = model(**data.to_model_inputs(batch)).logits
    folders = (None, tmp_path, tmp_path)
    for place, cache in enumerate(each and DiskCache(each, ".safetensors") for each in folders):
        other = data.load_model(folder)
        batch_windows(other)
        if unified:
            unify_vision_passes(other)
        tower, rows = ConstantTower(other, cache), rows_of(batch)
        seen = tower.see([*rows, *rows])
        assert seen[4] is seen[0], "rows with one prompt share its features"
        assert tower.computed == (4, 3, 0)[place]  # two prompts have the same image
        flat = {key: [row[key] for row in seen[:4]] for key in data.VISION_KEYS}
        assert_close(other(**data.to_model_inputs(tokens | flat)).logits, expected)


def test_the_key_depends_on_weights_and_pixels(model_folder, media, questions, tmp_path):
    cache = DiskCache(tmp_path, ".safetensors")
    rows = rows_of(encode(model_folder, media, questions))
    first = ConstantTower(data.load_model(model_folder), cache)
    first.see(rows)
    changed = data.load_model(model_folder)
    backbone_of(changed).visual.merger.mlp[2].bias.data[0] += 1
    second = ConstantTower(changed, cache)
    second.see(rows)
    assert first.key != second.key and second.computed == 3
    other = data.load_model(model_folder)  # its windows would be divided in another way
    backbone_of(other).visual.config.window_size *= 2
    assert ConstantTower(other, cache).key != first.key
    rows[0]["pixel_values_videos"] = rows[0]["pixel_values_videos"] + 1
    third = ConstantTower(data.load_model(model_folder), cache)
    third.see([{**row, "features": {}} for row in rows])
    assert third.key == first.key and third.computed == 1


def test_features_of_masked_and_shuffled_frames_are_not_kept(
    model_folder, media, questions, tmp_path
):
    """They are drawn at random for one step, so no other step or run could use them."""
    cache = DiskCache(tmp_path, ".safetensors")
    tower = ConstantTower(data.load_model(model_folder), cache)
    processor, frames = data.load_processor(model_folder), FrameCache(None)
    step = Step(questions[:1], group_size=1, shuffled=True)
    pa_grpo.encode(
        step, processor, lambda q: data.read_frames(q, root=media, cache=frames, **VIDEO), "brief"
    )
    masked = mask_vision(
        rows_of(encode(model_folder, media, questions))[:1], questions[:1], processor, 0.5, "0/1"
    )
    tower.see([*step.vision, *masked])
    assert tower.computed == 2 and not list(tmp_path.glob("*.safetensors"))
    tower.see(rows_of(encode(model_folder, media, questions))[:1])
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_a_step_sees_each_prompt_as_rarely_as_possible(
    model_folder, media, questions, tmp_path, frozen
):
    """The rollouts of a group are in two micro-batches, which both need the features."""

    def run(folder, cache):
        settings = ("rl.group_size=4", "rl.micro_batch=2", "rl.learning_rate=1e-3", "rl.steps=2")
        trainer, cases = make_trainer(
            *(type_of_trainer, model_folder, media, questions[:1], folder, *settings)
        )
        calls = []
        for model in (trainer.model, trainer.ref_model):
            embed = backbone_of(model).visual.patch_embed
            embed.register_forward_hook(lambda *_: calls.append(1))
        if frozen:
            freeze_vision(trainer.model)
            trainer.vision_once.cache = cache
        else:  # as if no tower were constant
            trainer.vision_once.see = lambda model, vision, trained: vision
        trainer.train()
        return trainer, len(calls), [case.trace.text for case in cases]

    from p2r.training.trainer import ProcessAwareGRPOTrainer as type_of_trainer

    cache = DiskCache(tmp_path / "features", ".safetensors") if frozen else None
    trainer, calls, said = run(tmp_path / "one", cache)
    # Each of two steps: sampling, two passes of the reference, two of the policy.
    assert calls == (1 if frozen else 10)
    assert len(said) == 8
    if frozen:
        trainer, again, same = run(tmp_path / "two", cache)
        assert again == 0 and same == said
        assert torch.isfinite(torch.tensor(trainer.state.log_history[0]["kl"]))
