"""The critic: its equations against plain loops, unknown rewards, its part of a step, a resume."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from small import read_lines, stopped_at_line
from small_rl import FULL, generation, scripted
from test_exactness import BLIND, FOG, LOST, WRONG
from test_grpo import train
from torch.testing import assert_close

from p2r import data
from p2r.records import Case
from p2r.runs.recipe import load_recipe
from p2r.training.critic import FILE, Critic, token_advantages, token_rewards, value_loss
from p2r.training.probe import undone
from p2r.training.step import Step

pytest_plugins = ["small_fixtures"]
slow = pytest.mark.slow
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]])
LENGTHS = torch.tensor([2, 1, 0])
SINGLE = SimpleNamespace(device=torch.device("cpu"), reduce=lambda value, reduction: value)
REWARDS = torch.tensor([[1.0, 2.0], [0.5, 0.0], [3.0, 1.0]])


def test_rewards_are_paid_at_the_end_of_their_process():
    outcome = token_rewards(REWARDS, ("reasoning",), LENGTHS, MASK)
    assert outcome.tolist() == [[0, 0, 0, 2], [0, 0, 0, 0], [1, 0, 0, 0]]
    both = token_rewards(REWARDS, ("perception", "reasoning"), LENGTHS, MASK)
    assert both.tolist() == [[0, 1, 0, 2], [0.5, 0, 0, 0], [4, 0, 0, 0]]
    nothing = token_rewards(REWARDS, ("reasoning",), LENGTHS, torch.zeros_like(MASK))
    assert not nothing.any()


@pytest.mark.parametrize(("discount", "smooth"), [(1.0, 1.0), (0.9, 0.7), (1.0, 0.0)])
def test_advantages_are_sums_of_later_errors(discount, smooth):
    values = torch.rand(MASK.shape, generator=torch.Generator().manual_seed(0))
    paid = token_rewards(REWARDS, ("perception", "reasoning"), LENGTHS, MASK)
    found = token_advantages(paid, values, MASK, discount, smooth)
    for row, length in enumerate(MASK.sum(1).tolist()):
        v = [*values[row, :length].tolist(), 0.0]
        errors = [paid[row, t].item() + discount * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((discount * smooth) ** (k - t) * errors[k] for k in range(t, length))
            assert found[row, t].item() == pytest.approx(expected, abs=1e-6)
        assert not found[row, length:].any()


def test_an_unknown_reward_is_unknown_for_all_tokens_before_it():
    paid = token_rewards(
        torch.tensor([[math.nan, 2.0], [1.0, math.nan]]), ("perception", "reasoning"),
        torch.tensor([2, 1]), MASK[:2],
    )  # fmt: skip
    found = token_advantages(paid, torch.zeros(2, 4), MASK[:2], 1.0, 1.0)
    assert found.isnan().tolist() == [[True, True, False, False], [True, True, True, False]]
    assert found[0, 2:].tolist() == [2, 2] and found[1, 3] == 0


def test_the_loss_of_the_head_is_half_the_squared_error_of_known_tokens():
    values = torch.tensor([[1.0, 2.0, 9.0], [0.0, 9.0, 9.0]], requires_grad=True)
    targets = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    known = torch.tensor([[True, False, False], [True, False, False]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    loss = value_loss(values, targets, known, mask)
    assert loss.item() == pytest.approx((0.5 * 1 / 2 + 0.5 * 4) / 2)
    loss.backward()
    assert values.grad.tolist() == [[0.25, 0, 0], [-1, 0, 0]]


def test_the_critic_keeps_the_numbers_that_the_step_has_for_the_log():
    critic = Critic(8, load_recipe("tiny1", ["rl.credit=critic"]).rl, SINGLE, seed=1)
    traces = [SimpleNamespace(perception_tokens=length) for length in LENGTHS.tolist()]
    step = Step([None] * 3, 3, metrics={"dynamic/rounds": 2.0}, rewards=REWARDS)
    step.cases = [SimpleNamespace(trace=trace) for trace in traces]
    critic.assess(step, torch.ones(3, 4, 8), MASK)
    assert step.metrics == {"dynamic/rounds": 2.0, "critic/explained": pytest.approx(0)}
    assert step.advantages.shape == (3, 2)


def test_the_head_learns_from_one_micro_batch_at_a_time():
    """The update is that of all rows together."""
    noise, heads, seen = torch.Generator().manual_seed(0), [], []
    states, targets = torch.rand(3, 4, 8, generator=noise), torch.rand(3, 4, generator=noise)
    for size in (2, 3):
        settings = load_recipe("tiny1", [f"rl.micro_batch={size}", "rl.critic.updates=3"]).rl
        critic = Critic(8, settings, SINGLE, seed=1)
        critic._learned, rows = (states, targets, MASK.bool(), MASK), []
        critic.head.register_forward_hook(lambda *given, rows=rows: rows.append(len(given[2])))
        seen.append((critic.learn(), rows))
        heads.append(critic.state()["head"])
    assert seen[0][0] == pytest.approx(seen[1][0]) and seen[0][0] > 0
    assert (seen[0][1], seen[1][1]) == ([2, 1] * 3, [3] * 3)
    assert_close(heads[0], heads[1])


def test_without_a_limit_of_gradients_the_head_learns():
    heads = []
    for limit in (0, 1e6):
        settings = load_recipe("tiny1", [f"rl.max_grad_norm={limit}"]).rl
        critic = Critic(8, settings, SINGLE, seed=1)
        start = critic.state()["head"]
        critic._learned = (torch.ones(3, 4, 8), torch.ones(3, 4), MASK.bool(), MASK)
        critic.learn()
        heads.append(critic.state()["head"])
        assert any(not torch.equal(heads[-1][name], start[name]) for name in start)
    assert_close(*heads)


# ---------------------------------------------------------------------------- with a model


@slow
@pytest.mark.parametrize("credit", ["critic", "critic_process"])
def test_a_new_head_gives_the_normalised_rewards(model_folder, media, questions, tmp_path, credit):
    """A new head predicts 0, so the advantage of a token is the sum of the later rewards."""
    said = [FULL, BLIND, FOG, WRONG, LOST]
    _, batch, cases = scripted(
        model_folder, media, questions, tmp_path, said, f"rl.credit={credit}"
    )
    mask = batch["completion_mask"].bool()
    raw, known, looked = torch.zeros(mask.shape), mask.clone(), torch.zeros_like(mask)
    for row, case in enumerate(cases):
        border = case.trace.perception_tokens
        looked[row, :border] = True
        raw[row] = case.reasoning.total
        if credit == "critic_process":
            known[row, :border] &= case.perception.total is not None
            raw[row, :border] += case.perception.total or 0.0
    assert torch.equal(known, mask) == (credit == "critic")
    expected = torch.zeros(mask.shape)
    for part in [known] if credit == "critic" else [known & looked, known & ~looked]:
        values = raw[part]
        scaled = (raw - values.mean()) / (values.std(correction=0) + 1e-4)
        expected = torch.where(part, scaled, expected)
    assert_close(batch["advantages"], expected, atol=1e-4, rtol=1e-4)
    for row, case in enumerate(cases):
        border, end = case.trace.perception_tokens, case.trace.completion_tokens
        means = expected[row, :border].mean().item(), expected[row, border:end].mean().item()
        assert (case.perception_advantage, case.reasoning_advantage) == pytest.approx(
            means, abs=1e-4
        )


@slow
def test_the_head_learns_and_the_policy_does_not_change(model_folder, media, questions, tmp_path):
    settings = ["rl.credit=critic", "rl.critic.learning_rate=0.01", "rl.critic.updates=20"]
    trainer, _, _ = scripted(model_folder, media, questions, tmp_path, [FULL, LOST], *settings)
    before = {key: weight.clone() for key, weight in trainer.model.state_dict().items()}
    for _ in range(2):
        trainer._generate_and_score_completions(generation(questions[:1], 2))
    logged = trainer._metrics["train"]
    assert logged["critic/loss"][-1] < 0.2 * logged["critic/loss"][0]
    assert logged["critic/explained"][-1] > logged["critic/explained"][0] == pytest.approx(0)
    after = trainer.model.state_dict()
    assert all(torch.equal(weight, after[key]) for key, weight in before.items())
    kept = trainer.critic.state()
    with undone(trainer):  # as in the preflight
        trainer._generate_and_score_completions(generation(questions[:1], 2))
        assert not torch.equal(trainer.critic.head[-1].bias, kept["head"]["3.bias"])
    assert torch.equal(trainer.critic.head[-1].bias, kept["head"]["3.bias"])


@slow
def test_if_all_rewards_are_equal_or_unknown_no_token_has_an_advantage(
    model_folder, media, questions, tmp_path
):
    for said, credit in (([FULL] * 3, "critic"), ([FOG] * 3, "critic_process")):
        _, batch, cases = scripted(
            model_folder, media, questions, tmp_path, said, f"rl.credit={credit}"
        )
        assert not batch["advantages"].any()
        assert all(case.perception_advantage == case.reasoning_advantage == 0 for case in cases)


VARIANTS = {
    "critic": ["rl.credit=critic_process"],
    "papo": ["rl.credit=outcome", "rl.perception_loss=0.02", "tuning.lora_rank=4"],
    "mt_grpo": ["rl.credit=turn", "rl.discount=0.5"],
}


@slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_trains_and_resumes_to_the_same_weights(taught_folder, media, tmp_path, name):
    settings = [*VARIANTS[name], "rl.steps=2", "rl.save_steps=1", "rl.preflight=1", "keep=all"]
    settings += ["rl.max_tokens=60", "rl.group_size=4", "rl.micro_batch=4"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, taught_folder, media, *settings)
    with stopped_at_line(2):
        train(cut, taught_folder, media, *settings)
    assert not (cut / "model").exists()
    train(cut, taught_folder, media, *settings)
    rows = [read_lines(folder / "metrics.jsonl") for folder in (whole, cut)]
    for before, after in zip(*rows, strict=True):
        kept = [key for key in before if not key.startswith(("time/", "step_time", "train_"))]
        shown = ([repr(row[key]) for key in kept] for row in (before, after))
        assert next(shown) == next(shown), "bit for bit"
    ends = [data.load_model(folder / "model").state_dict() for folder in (whole, cut)]
    start = data.load_model(taught_folder).state_dict()
    assert all(torch.equal(weight, ends[1][key]) for key, weight in ends[0].items())
    assert any(not torch.equal(weight, start[key]) for key, weight in ends[0].items())
    heads = [torch.load(folder / "checkpoints" / "checkpoint-2" / FILE, weights_only=True)["head"]
             for folder in (whole, cut)] if name == "critic" else []  # fmt: skip
    if heads:
        assert all(torch.equal(weight, heads[1][key]) for key, weight in heads[0].items())
        assert rows[0][1]["critic/loss"] > 0 and "critic/explained" in rows[0][1]
        assert not list((whole / "model").glob(FILE)), "it is not exported"
    if name == "papo":
        assert all(row["masked_kl"] > 0 and row["masked_entropy"] > 0 for row in rows[0])
    if name == "mt_grpo":
        cases = [Case.model_validate(row) for row in read_lines(whole / "rollouts.jsonl")]
        assert any(case.perception_advantage != case.reasoning_advantage for case in cases)
