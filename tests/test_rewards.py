"""Equations (5) and (6) on hand-made numbers, collapsed groups, credit and weight of each token."""

import math

import numpy as np
import pytest
import torch

from p2r.rewards import (
    CREDITS,
    NORMALISATIONS,
    collapsed,
    credit_advantages,
    process_advantages,
    process_masks,
    process_reward,
    rewards_in_use,
    spread_advantages,
    temporal_rewards,
    token_weights,
)

NAN = math.nan

# ---- eq. (5)


@pytest.mark.parametrize(
    ("accuracy", "format_ok", "tokens", "total"),
    [
        (1.0, True, 200, 2.2),
        (1.0, True, 128, 2.2),  # the range is closed
        (1.0, True, 320, 2.2),
        (1.0, True, 127, 2.0),
        (1.0, True, 321, 2.0),
        (0.5, True, 200, 1.7),
        (0.0, True, 200, 1.0),  # no length reward without accuracy
        (1.0, False, 200, 1.0),  # nor without format
        (0.0, False, 200, 0.0),
        (1.0, True, None, 2.0),
    ],
)
def test_a_process_reward_is_accuracy_format_and_length(accuracy, format_ok, tokens, total):
    assert process_reward(accuracy, format_ok, tokens, (128, 320)).total == pytest.approx(total)


@pytest.mark.parametrize("unknown", [None, NAN])
def test_an_unknown_accuracy_stays_unknown(unknown):
    reward = process_reward(unknown, True, 200, (128, 320))
    assert (reward.accuracy, reward.format, reward.length, reward.total) == (None, 1.0, 0.0, None)


def test_the_bonus_is_a_setting():
    assert process_reward(1.0, True, 5, (1, 9), bonus=0.5).length == 0.5


# ---- eq. (6)


def test_advantages_by_hand():
    # perception: mean 0.5, std sqrt(1/3); reasoning: mean 2.5, std sqrt(5/3)
    rewards = [[0, 1], [0, 2], [1, 3], [1, 4]]
    p, r = 0.5 / (math.sqrt(1 / 3) + 1e-4), 1 / (math.sqrt(5 / 3) + 1e-4)
    expected = [[-p, -1.5 * r], [-p, -0.5 * r], [p, 0.5 * r], [p, 1.5 * r]]
    np.testing.assert_allclose(process_advantages(rewards, 4), expected, rtol=1e-12)


def trl_advantages(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """Compute the advantages of one reward with the code of TRL's GRPOTrainer."""
    from trl.trainer.utils import nanstd

    groups = rewards.view(-1, group_size)
    mean = torch.nanmean(groups, dim=1).repeat_interleave(group_size)
    std = nanstd(groups, dim=1).repeat_interleave(group_size)
    return torch.nan_to_num((rewards - mean) / (std + 1e-4), nan=0.0)


def test_equal_rewards_of_both_processes_are_grpo():
    torch.manual_seed(0)
    reward = torch.rand(48)
    reward[[3, 17, 18]] = NAN
    reward[24:31] = NAN  # one known reward in its group
    advantages = process_advantages(torch.stack([reward, reward], dim=1), 8)
    expected = trl_advantages(reward, 8)
    torch.testing.assert_close(advantages, torch.stack([expected, expected], dim=1))


def test_processes_and_groups_do_not_mix():
    rewards = np.random.default_rng(0).random((16, 2))
    whole = process_advantages(rewards, 8)
    np.testing.assert_allclose(whole[8:], process_advantages(rewards[8:], 8))
    np.testing.assert_allclose(whole[:, ::-1], process_advantages(rewards[:, ::-1], 8))


def test_unknown_rewards_are_excluded_and_get_zero():
    advantages = process_advantages([[0, 1], [1, 1], [NAN, 0], [None, 0]], 4)
    half = 0.5 / (math.sqrt(1 / 2) + 1e-4)  # of 0 and 1 alone: mean 0.5, std sqrt(1/2)
    np.testing.assert_allclose(advantages[:, 0], [-half, half, 0, 0], rtol=1e-12)
    assert not np.isnan(advantages).any()


@pytest.mark.parametrize(
    "group",
    [
        [1.0, 1.0, 1.0, 1.0],
        [NAN, NAN, NAN, NAN],
        [NAN, 0.7, NAN, NAN],
        [0.1 + 0.2, 0.3, 0.3, NAN],  # equal but for float noise
    ],
)
def test_a_group_of_equal_rewards_gives_zeros(group):
    rewards = np.array([group, [0.0, 1.0, 0.0, 1.0]]).T
    advantages = process_advantages(rewards, 4)
    assert advantages[:, 0].tolist() == [0.0] * 4
    assert np.abs(advantages[:, 1]).min() > 0.8
    noisy = torch.tensor(rewards, dtype=torch.float32)
    assert process_advantages(noisy, 4)[:, 0].tolist() == [0.0] * 4


def test_groups_of_one_give_zeros():
    assert process_advantages([[1, 2], [3, 4]], 1).tolist() == [[0, 0], [0, 0]]


def test_no_rewards_give_no_advantages():
    assert process_advantages(np.zeros((0, 2)), 8).shape == (0, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors_keep_their_type(dtype):
    rewards = torch.tensor([[0, 1], [1, 0]], dtype=dtype)
    for result in (process_advantages(rewards, 2), credit_advantages("shared", rewards, 2)):
        assert result.dtype == dtype
        assert result.shape == (2, 2)
    assert process_advantages(torch.tensor([[0, 1], [1, 0]]), 2).dtype == torch.float32
    assert process_advantages(np.zeros((2, 2), np.float32), 2).dtype == np.float32
    assert isinstance(process_advantages([[0, 1], [1, 0]], 2), np.ndarray)


def test_rewards_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="6 rewards cannot be split into groups of 4"):
        process_advantages(np.zeros((6, 2)), 4)
    with pytest.raises(ValueError, match="groups of 0"):
        process_advantages(np.zeros((6, 2)), 0)
    with pytest.raises(ValueError, match="shape"):
        process_advantages([1.0, 2.0], 2)
    with pytest.raises(ValueError, match="shape"):
        credit_advantages("process", np.zeros((4, 1)), 2)


# ---- collapse


def test_a_collapsed_group_gives_no_signal_for_its_process():
    rewards = [[1, 0], [1, 1], [NAN, 1], [0, 1], [0.5, NAN], [0.5 + 1e-9, 0]]
    assert collapsed(rewards, 2).tolist() == [[1, 0], [1, 1], [1, 1]]
    gives_signal = np.abs(process_advantages(rewards, 2)).reshape(3, 2, 2).max(axis=1) > 0
    assert (collapsed(rewards, 2) == ~gives_signal).all()


def test_the_tolerance_is_a_setting():
    rewards = [[1.0, 0.0], [1.01, 1.0]]
    assert collapsed(rewards, 2).tolist() == [[0, 0]]
    assert collapsed(rewards, 2, tolerance=0.05).tolist() == [[1, 0]]


# ---- credit

REWARDS = np.array([[1, 0], [0, 2], [1, 1], [NAN, 2]])


def test_process_credit_gives_each_process_its_own_advantage():
    np.testing.assert_allclose(
        credit_advantages("process", REWARDS, 4), process_advantages(REWARDS, 4)
    )


def test_shared_credit_is_the_advantage_of_the_sum_for_all_tokens():
    totals = np.array([1, 2, 2, NAN])[:, None]
    expected = process_advantages(totals, 4)
    np.testing.assert_allclose(
        credit_advantages("shared", REWARDS, 4), np.hstack([expected, expected])
    )
    assert expected[3] == 0  # an unknown part makes the sum unknown


def test_outcome_credit_is_grpo():
    reasoning = process_advantages(REWARDS, 4)[:, 1:]
    np.testing.assert_allclose(
        credit_advantages("outcome", REWARDS, 4), np.hstack([reasoning, reasoning])
    )


def test_decoupled_credit_adds_the_normalised_rewards():
    both = process_advantages(REWARDS, 4).sum(axis=1)
    np.testing.assert_allclose(
        credit_advantages("decoupled", REWARDS, 4), np.stack([both, both], axis=1)
    )


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_turn_credit_adds_the_later_reward_to_the_first_turn(discount):
    """Against plain loops: a group with unknown rewards, one whose R_P are equal, one all equal."""
    groups = [REWARDS.tolist(), [[2, 1], [2, 3], [2, 3], [2, NAN]], [[1, 1]] * 4]
    rewards = [row for group in groups for row in group]
    found = credit_advantages("turn", rewards, 4, discount=discount)
    for place, (looked, reasoned) in enumerate(found.tolist()):
        by_process = []
        for column in (0, 1):
            known = [r[column] for r in groups[place // 4] if not math.isnan(r[column])]
            own = groups[place // 4][place % 4][column]
            mean = sum(known) / len(known)
            std = math.sqrt(sum((r - mean) ** 2 for r in known) / (len(known) - 1)) + 1e-4
            by_process.append(0 if math.isnan(own) else (own - mean) / std)
        assert reasoned == pytest.approx(by_process[1])
        assert looked == pytest.approx(by_process[0] + discount * by_process[1])


def test_turn_credit_without_later_rewards_is_pa_grpo_bit_for_bit():
    rewards = torch.tensor(REWARDS, dtype=torch.float32)
    found = credit_advantages("turn", rewards, 4, discount=0.0)
    assert torch.equal(found, credit_advantages("process", rewards, 4))


def test_a_critic_needs_a_model():
    assert rewards_in_use("critic") == ("reasoning",)
    assert rewards_in_use("critic_process") == ("perception", "reasoning")
    with pytest.raises(ValueError, match="need a model"):
        credit_advantages("critic", REWARDS, 4)


def test_an_unknown_scheme_names_the_known():
    with pytest.raises(ValueError, match=", ".join(CREDITS)):
        credit_advantages("magic", REWARDS, 4)


def test_every_token_gets_the_advantage_of_its_process():
    advantages = torch.tensor([[1.0, -1.0], [2.0, -2.0], [3.0, -3.0], [4.0, -4.0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    spread = spread_advantages(advantages, torch.tensor([2, 0, 9, 1]), mask)
    expected = [[1, 1, -1, -1], [-2, -2, -2, 0], [3, 3, 0, 0], [0, 0, 0, 0]]
    assert spread.tolist() == expected
    assert spread.dtype == advantages.dtype


def test_spreading_checks_shapes():
    with pytest.raises(ValueError, match="do not fit 3 completions"):
        spread_advantages(torch.zeros(2, 2), [1, 1], torch.ones(3, 4))

    with pytest.raises(ValueError, match=r"advantages \(3, 1\) do not fit 3 completions"):
        spread_advantages(torch.zeros(3, 1), [1, 1, 1], torch.ones(3, 4))


def test_every_completion_token_has_exactly_one_process():
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    looked, reasoned = process_masks([2, 0, 9, 1], mask)
    assert looked.sum(1).tolist() == [2, 0, 2, 0]
    assert torch.equal(looked.int() + reasoned.int(), mask)


# ---- the switches of Table 2


@pytest.mark.parametrize("scheme", CREDITS)
def test_without_the_perception_reward_it_is_grpo_on_all_tokens(scheme):
    advantages = credit_advantages(scheme, REWARDS, 4, ["reasoning", "length"])
    np.testing.assert_allclose(advantages, credit_advantages("outcome", REWARDS, 4))
    # reasoning rewards 0, 2, 1, 2: mean 1.25, std sqrt(2.75 / 3)
    by_hand = np.array([-1.25, 0.75, -0.25, 0.75]) / (math.sqrt(2.75 / 3) + 1e-4)
    np.testing.assert_allclose(advantages, np.stack([by_hand, by_hand], axis=1))


@pytest.mark.parametrize("scheme", ["process", "shared", "decoupled", "turn"])
def test_without_the_reasoning_reward_perception_decides_for_all_tokens(scheme):
    # perception rewards 1, 0, 1 and one unknown: mean 2/3, std sqrt(1/3)
    by_hand = np.array([1 / 3, -2 / 3, 1 / 3, 0]) / (math.sqrt(1 / 3) + 1e-4)
    advantages = credit_advantages(scheme, REWARDS, 4, ["perception"])
    np.testing.assert_allclose(advantages, np.stack([by_hand, by_hand], axis=1))


def test_which_rewards_a_scheme_learns_from():
    assert rewards_in_use("process") == ("perception", "reasoning")
    assert rewards_in_use("process", ["length", "reasoning", "perception"]) == (
        "perception",
        "reasoning",
    )
    assert rewards_in_use("shared", ["perception"]) == ("perception",)
    assert rewards_in_use("outcome") == ("reasoning",)
    with pytest.raises(ValueError, match="'outcome' needs the reward of reasoning"):
        rewards_in_use("outcome", ["perception", "length"])
    with pytest.raises(ValueError, match="only these rewards are turned on"):
        credit_advantages("process", REWARDS, 4, ["length"])


# ---- normalisation over tokens


def test_in_a_sequence_each_token_weighs_the_same():
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    weights = token_weights("sequence", [1, 0, 0], mask)
    assert weights.tolist() == [[0.25] * 4, [0.5, 0.5, 0, 0], [0, 0, 0, 0]]


def test_by_process_each_process_has_the_same_weight_at_any_length():
    mask = torch.tensor(
        [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    )
    weights = token_weights("process", [1, 2, 0, 9, 3], mask)
    expected = [
        [1 / 2, 1 / 8, 1 / 8, 1 / 8, 1 / 8],  # one token of perception, four of reasoning
        [1 / 4, 1 / 4, 1 / 4, 1 / 4, 0],  # two and two: as in the sequence
        [1 / 4, 1 / 4, 1 / 4, 1 / 4, 0],  # no perception: reasoning has the whole
        [1 / 2, 1 / 2, 0, 0, 0],  # no reasoning: perception has the whole
        [0, 0, 0, 0, 0],  # no token at all
    ]
    assert weights.tolist() == expected


@pytest.mark.parametrize("scheme", NORMALISATIONS)
def test_every_completion_weighs_the_same(scheme):
    torch.manual_seed(0)
    lengths = torch.randint(1, 40, (64,))
    mask = torch.arange(40) < lengths[:, None]
    weights = token_weights(scheme, torch.randint(0, 40, (64,)), mask)
    torch.testing.assert_close(weights.sum(1), torch.ones(64))
    assert (weights[~mask] == 0).all() and (weights[mask] > 0).all()


def test_an_unknown_normalisation_names_the_known():
    with pytest.raises(ValueError, match="sequence, process"):
        token_weights("magic", [1], torch.ones(1, 2))


# ---- T-GRPO

TEMPORAL = [
    # ordered accuracies, shuffled accuracies (NaN: no such rollout), rewards
    ([1, 1, 0, 0], [1, NAN, 0, NAN], [0.3, 0.3, 0, 0]),  # p = 0.5, p~ = 0.5
    ([1, 1, 0, 0], [1, NAN, 1, NAN], [0, 0, 0, 0]),  # 0.5 < 0.8
    ([1, 1, 1, 0.2], [1, NAN, 1, NAN], [0.3, 0.3, 0.3, 0.3]),  # 0.8 >= 0.8, and 0.2 > 0.1
    ([0.1, 0, 0, 0], [0, NAN, 0, NAN], [0, 0, 0, 0]),  # no right answer
    ([1, 0, 1, 0], [NAN] * 4, [0, 0, 0, 0]),  # an image has no shuffled rollouts
    ([1, NAN, NAN, 0], [0.5, NAN, NAN, NAN], [0.3, 0, 0, 0]),  # unknown ones are left out
]


@pytest.mark.parametrize(("ordered", "shuffled", "rewards"), TEMPORAL)
def test_right_answers_earn_the_temporal_reward_if_the_order_of_frames_helps(
    ordered, shuffled, rewards
):
    assert temporal_rewards(ordered, shuffled, 4).tolist() == rewards


def test_temporal_rewards_are_given_by_group():
    ordered, shuffled, rewards = ([x for row in TEMPORAL for x in row[k]] for k in range(3))
    found = temporal_rewards(torch.tensor(ordered), torch.tensor(shuffled), 4)
    assert found.dtype == torch.float32 and found.tolist() == pytest.approx(rewards)
    with pytest.raises(ValueError, match="do not fit"):
        temporal_rewards(ordered, shuffled[:4], 4)


def test_temporal_credit_is_grpo_on_the_reasoning_reward():
    expected = credit_advantages("outcome", REWARDS, 4)
    np.testing.assert_array_equal(credit_advantages("temporal", REWARDS, 4), expected)
    assert rewards_in_use("temporal") == ("reasoning",)
