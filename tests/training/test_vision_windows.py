"""Windows of the vision tower in few calls: the same features and gradients."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from p2r import data
from p2r.training import vision_windows

pytest_plugins = ["small_fixtures"]


def test_windows_of_one_length_are_computed_together(model_folder, monkeypatch):
    model = data.load_model(model_folder)
    tower = model.model.visual
    tower.fullatt_block_indexes = [1]
    grid = torch.tensor([[2, 20, 36], [1, 16, 16]])  # windows of 64, 16 and 4 merged patches
    torch.manual_seed(0)
    patches = torch.randn(int(grid.prod(-1).sum()), tower.patch_embed.proj.weight[0].numel())
    calls, attend = [], vision_windows.scaled_dot_product_attention

    def count(query, *given, **settings):
        calls.append(query.size(0))
        return attend(query, *given, **settings)

    monkeypatch.setattr(vision_windows, "scaled_dot_product_attention", count)

    def see() -> tuple[torch.Tensor, list[torch.Tensor]]:
        features = tower(patches, grid_thw=grid).pooler_output
        weights = [p for p in tower.parameters() if p.requires_grad]
        return features, torch.autograd.grad(features.square().sum(), weights)

    one = see()
    assert not calls
    vision_windows.batch_windows(model)
    other = see()
    # A layer with windows of 64, 16 and 4 merged patches, and one with whole frames.
    assert sorted(calls) == [1, 2, 2, 5, 6]
    assert_close(other[0], one[0], atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(other[1], one[1], strict=True):
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm() + 1e-6
