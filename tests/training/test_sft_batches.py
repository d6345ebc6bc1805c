"""Packed SFT batches: no padding, and the loss and gradients of padded batches."""

from __future__ import annotations

import pytest
import torch
from small import VIDEO
from trl.trainer.utils import add_fused_lm_head

from p2r import data
from p2r.training.packing import accept_packed_rows
from p2r.training.sft_batches import TraceCollator, fill_bins, pack_examples, split_bins
from p2r.video import FrameCache

pytest_plugins = ["small_fixtures"]


@pytest.mark.parametrize(
    ("lengths", "budget", "bins"),
    [
        ([4, 3, 2, 1], 5, [[0, 3], [1, 2]]),
        ([9, 1], 5, [[0], [1]]),  # the first is longer than the budget
        ([2, 2, 2], 6, [[0, 1, 2]]),
        ([], 5, []),
    ],
)
def test_bins_are_filled_by_tokens(lengths, budget, bins):
    assert fill_bins(lengths, budget) == bins


def test_bins_are_split_for_workers_that_need_more_passes():
    assert split_bins([[0, 1, 2], [3]], 2) == [[0, 1, 2], [3]]
    assert split_bins([[0, 1, 2], [3]], 4) == [[0], [3], [2], [1]]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["model_folder", "qwen3_folder"])
@pytest.mark.parametrize("recompute", [False, True])
def test_packed_examples_have_the_loss_of_padded_ones(request, media, questions, family, recompute):
    folder = request.getfixturevalue(family)
    collator = TraceCollator(
        data.load_processor(folder),
        questions,
        ["two", "one red, one blue", "none of them is red", "I see two of them", "2"],
        lambda q: data.read_frames(q, root=media, cache=FrameCache(None), **VIDEO),
        "brief",
        None,
        lambda question, reason: pytest.fail(reason),
    )
    rows = [{"example": place} for place in range(len(questions))]
    found = []
    for packed in (False, True):
        collator.packed = packed
        model = data.load_model(folder).train()
        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        batch = collator(rows)
        if packed:
            accept_packed_rows(model)
            count = int(batch["labels"][1:].ne(data.IGNORED).sum())
            batch = pack_examples(model, batch["examples"])
            tokens = batch["input_ids"].numel()
        else:
            assert batch["input_ids"].numel() > batch["attention_mask"].sum()
            tokens = int(batch["attention_mask"].sum())
            count = int(batch["labels"][:, 1:].ne(data.IGNORED).sum())
        loss = -model(**batch, fused_lm_head=True, use_cache=False).log_probs.sum() / count
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((loss.detach(), gradients, tokens, count))
    (loss, gradients, *sizes), (other, others, *others_sizes) = found
    assert sizes == others_sizes
    assert abs(loss - other) < 1e-6 * abs(loss)
    assert (gradients - others).norm() < 1e-5 * gradients.norm()
