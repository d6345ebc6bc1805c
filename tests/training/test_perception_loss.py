"""PAPO: the divergence between real and masked frames, its gradient, its masks, its training."""

from __future__ import annotations

import math

import pytest
import torch
from small import VIDEO
from small_rl import FULL, generation, loss_and_gradients, make_trainer, scripted
from test_exactness import BLIND, LOST, WRONG
from test_grpo import logps
from torch.testing import assert_close

from p2r import data
from p2r.training.perception_loss import (
    MOST_KL,
    Reading,
    black_patch,
    mask_patches,
    mask_vision,
    perception_losses,
)
from p2r.training.trainer import ProcessAwareGRPOTrainer
from p2r.video import FrameCache

pytest_plugins = ["small_fixtures"]


def reading(seed, spread=1.0):
    noise = torch.Generator().manual_seed(seed)
    return Reading(
        *(spread * torch.rand(2, 3, generator=noise, dtype=torch.double) - part for part in (2, 0))
    )


def test_the_loss_of_a_token_is_that_of_the_paper():
    real, masked = reading(0), reading(1)
    losses, terms = perception_losses(real, masked, torch.ones(2), gamma=0.02, eta=0.03)
    for row in range(2):
        for place in range(3):
            p, q = (math.exp(each.log_probs[row, place].item()) for each in (real, masked))
            kl = q / p - math.log(q / p) - 1
            entropies = (real.entropies + masked.entropies)[row, place].item()
            assert losses[row, place].item() == pytest.approx(-0.02 * kl + 0.03 * entropies)
            assert terms["masked_kl"][row, place].item() == pytest.approx(kl)
    assert_close(terms["masked_entropy"], masked.entropies)


def test_its_gradient_is_that_of_finite_differences():
    def loss(*values):
        real, masked = Reading(*values[:2]), Reading(*values[2:])
        return perception_losses(real, masked, torch.tensor([1.0, 0.0]), 0.5, 0.1)[0]

    real, masked = reading(2), reading(3)
    values = [real.log_probs, real.entropies, masked.log_probs, masked.entropies]
    assert torch.autograd.gradcheck(loss, [value.requires_grad_() for value in values])


def test_equal_readings_and_questions_without_media_add_no_loss_and_a_large_divergence_is_cut():
    real = reading(4)
    losses, terms = perception_losses(real, real, torch.ones(2), 1.0, 0.0)
    assert not losses.any() and not terms["masked_kl"].any()
    losses, terms = perception_losses(real, reading(5), torch.zeros(2), 1.0, 1.0)
    assert not losses.any() and not terms["masked_kl"].any()
    for shift in (-99, 99, 999):  # exp(999) is infinite
        far = Reading((real.log_probs + shift).requires_grad_(), real.entropies)
        losses, terms = perception_losses(real, far, torch.ones(2), 1.0, 0.0)
        losses.sum().backward()
        assert (terms["masked_kl"] == MOST_KL).all()
        assert torch.equal(far.log_probs.grad, torch.zeros(2, 3).double())


def test_a_video_loses_the_same_places_in_all_its_moments():
    grid = torch.tensor([[3, 8, 8], [2, 4, 4]])
    patches = torch.arange(1.0, 3 * 64 + 2 * 16 + 1)[:, None].expand(-1, 6)
    black = torch.tensor([-1.0, -1, -2, -2, -3, -3])

    def mask(seed, share=0.6):
        generator = torch.Generator().manual_seed(seed)
        return mask_patches(patches, grid, share, black, generator)

    found = mask(0)
    hidden = (found == black).all(1)
    assert torch.equal(found[~hidden], patches[~hidden])
    first, second = hidden[:192].reshape(3, 64), hidden[192:].reshape(2, 16)
    assert (first == first[0]).all() and (second == second[0]).all()
    assert 0.4 < first[0].float().mean() < 0.8
    assert torch.equal(mask(0), found) and not torch.equal(mask(1), found)
    assert (mask(0, share=1.0) == black).all()


# ---------------------------------------------------------------------------- with a model

slow = pytest.mark.slow


@slow
def test_black_is_what_the_processor_makes_of_black_frames(model_folder, media, questions):
    processor = data.load_processor(model_folder)
    asked = [questions[0], questions[3]]  # a video, an image
    read = {**VIDEO, "root": media}
    frames = [data.read_frames(q, cache=FrameCache(None), **read) for q in asked]
    for clip in frames:
        clip.frames[:] = 0
    batch = data.encode_prompts(processor, asked, frames, "brief")
    for row, key, kind in ((0, "pixel_values_videos", "video"), (1, "pixel_values", "image")):
        patches = batch[key][row]
        black = black_patch(getattr(processor, f"{kind}_processor"), patches.size(1))
        assert_close(patches, black.expand_as(patches), atol=1e-5, rtol=0)


@slow
def test_rollouts_of_a_question_share_their_masked_frames_in_every_micro_batch(
    model_folder, media, questions, tmp_path
):
    trainer, _ = make_trainer(
        ProcessAwareGRPOTrainer, model_folder, media, questions, tmp_path,
        "rl.perception_loss=0.02", "rl.group_size=4", "rl.micro_batch=2",
    )  # fmt: skip
    trainer.model.train()
    trainer._prepare_inputs(generation(questions, 4))
    rows = [row for batch in trainer._buffered_inputs for row in batch["masked_vision"]]
    real = [row for batch in trainer._buffered_inputs for row in batch["vision"]]
    assert len({id(row) for row in rows}) == len({id(row) for row in real}) == len(questions)
    step, processor = trainer.step, trainer.processing_class
    assert [id(row) for row in step.vision] == [id(row) for row in real]
    again = mask_vision(step.vision[4:8], step.questions[4:8], processor, 0.6, "0/1")
    key = "pixel_values_videos"
    assert torch.equal(again[0][key], rows[4][key]) and not torch.equal(rows[4][key], real[4][key])
    for name in ("image_grid_thw", "video_grid_thw"):
        assert all(mine[name] is theirs[name] for mine, theirs in zip(rows, real, strict=True))
    assert rows[-1]["pixel_values"] is None and rows[-1][key] is None, "text alone"


@slow
def test_the_loss_of_a_batch_is_eq_7_plus_the_loss_of_the_paper(
    model_folder, media, questions, tmp_path
):
    said = [FULL, BLIND, WRONG, LOST]
    plain, batch, _ = scripted(model_folder, media, questions, tmp_path, said)
    settings = ["rl.perception_loss=0.0", "rl.mask_ratio=0.3", "rl.double_entropy=0.5"]
    off, off_batch, _ = scripted(model_folder, media, questions, tmp_path, said, *settings)
    base, gradients = loss_and_gradients(plain, batch)
    same, same_gradients = loss_and_gradients(off, off_batch)
    assert torch.equal(base, same), "with weight 0, PA-GRPO bit for bit"
    assert all(map(torch.equal, gradients, same_gradients))
    settings = ["rl.perception_loss=0.5", "rl.double_entropy=0"]
    trainer, batch, _ = scripted(model_folder, media, questions, tmp_path, said, *settings)
    found, gradients = loss_and_gradients(trainer, batch)
    log_p, log_q = (logps(trainer, batch, batch[key]) for key in ("vision", "masked_vision"))
    kl = ((log_q - log_p).exp() - (log_q - log_p) - 1) * batch["completion_mask"]
    expected = (kl.sum(1) / batch["completion_mask"].sum(1)).mean()
    assert expected > 1e-4
    assert_close(found, base - 0.5 * expected, atol=1e-6, rtol=1e-4)
    assert trainer._metrics["train"]["masked_kl"][0] > 0
    assert trainer._metrics["train"]["perception/masked_kl"][0] > 0
    # A step along the gradient raises the divergence, if nothing else is in the loss.
    still = {**batch, "advantages": torch.zeros_like(batch["advantages"])}
    trainer.beta = 0.0
    _, gradients = loss_and_gradients(trainer, still)
    weights = [p for p in trainer.model.parameters() if p.grad is not None]
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            weight -= 0.05 * gradient
    log_p, log_q = (logps(trainer, batch, batch[key]) for key in ("vision", "masked_vision"))
    more = ((log_q - log_p).exp() - (log_q - log_p) - 1) * batch["completion_mask"]
    assert more.sum() > kl.sum()
