"""RL stops before the first update if the reference is not the policy."""

from __future__ import annotations

import pytest
import torch
from small_rl import FULL, loss_and_gradients, scripted

from p2r.errors import TrainingError
from p2r.training.reference_check import TOLERANCE, check_reference, find_difference

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow
WRONG = "model.language_model.layers.1.mlp.down_proj.weight"


def test_a_wrong_weight_of_the_reference_is_named(model_folder, media, questions, tmp_path):
    trainer, batch, _ = scripted(model_folder, media, questions, tmp_path, [FULL, "2"])
    trainer.state.global_step = 0  # before the first update
    loss_and_gradients(trainer, batch)  # the reference is right: nothing is raised
    with torch.no_grad():
        dict(trainer.ref_model.named_parameters())[WRONG].zero_()
        columns = trainer._generate_and_score_completions(
            [{"prompt": "", "question": questions[0].id}] * 2
        )
    with pytest.raises(TrainingError, match=rf"rank 0: \S+ \({WRONG} differs by up to"):
        trainer.compute_loss(trainer.model, columns)
    trainer.state.global_step = 1  # after an update they differ as they should
    trainer.compute_loss(trainer.model, columns)


def test_log_probs_that_agree_up_to_rounding_pass():
    policy, mask = torch.zeros(2, 3), torch.tensor([[1, 1, 1], [1, 0, 0]])
    for precision, tolerance in TOLERANCE.items():
        check_reference(policy, policy + 0.9 * tolerance, mask, None, None, precision)
        with pytest.raises(TrainingError, match="no parameter differs"):
            check_reference(policy, policy - 1.1 * tolerance, mask, None, None, precision)
    beyond = policy.clone()
    beyond[1, 1] = 9  # padding
    check_reference(policy, beyond, mask, None, None, torch.float32)
    beyond[0, 0] = torch.nan
    with pytest.raises(TrainingError, match="nan per token"):
        check_reference(policy, beyond, mask, None, None, torch.float32)


def test_buffers_and_weights_that_are_not_numbers_are_found():
    ours, theirs = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    assert find_difference(ours, theirs) is None
    theirs.running_mean += 0.5
    assert find_difference(ours, theirs) == "running_mean differs by up to 0.5"
    theirs.weight.data[1] = torch.nan
    assert find_difference(ours, theirs).startswith("weight differs")
