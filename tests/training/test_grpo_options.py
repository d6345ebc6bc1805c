"""Training options of other projects: each reaches the trainer and the loss, or is refused."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from transformers import get_scheduler

from p2r.errors import P2RError, TrainingError, UserError
from p2r.rewards import credit_advantages
from p2r.runs.recipe import load_recipe
from p2r.training import tuning
from p2r.training.rl_checks import check_rl
from p2r.training.step import LossForm, loss


class Processor:
    """A processor without vision tokens; only `banned_token_ids` reads it."""

    tokenizer = None


@pytest.fixture
def arguments(monkeypatch, tmp_path):
    """Return the arguments of RL or SFT for some overrides, as if all libraries were installed."""
    from p2r.training import grpo, sft

    monkeypatch.setattr(tuning, "find_spec", lambda name: True)
    monkeypatch.setattr(grpo, "banned_token_ids", lambda tokenizer: [])

    def make(stage, *overrides):
        recipe = load_recipe("tiny", list(overrides))
        if stage == "rl":
            return grpo.grpo_arguments(recipe, Processor(), tmp_path / "run" / "rl" / "x")
        return sft.sft_arguments(recipe, tmp_path / "run" / "sft" / "x")

    return make


@pytest.mark.parametrize(
    ("stage", "override", "name", "value"),
    [
        ("rl", "rl.epsilon_high=0.28", "epsilon_high", 0.28),
        ("rl", "rl.updates=2", "num_iterations", 2),
        ("rl", "rl.ratio=sequence", "importance_sampling_level", "sequence"),
        ("rl", "rl.loss=cispo", "loss_type", "cispo"),
        ("rl", "rl.warmup_ratio=0.5", "warmup_steps", 25),
        ("rl", "rl.loss=dr_grpo", "loss_type", "dr_grpo"),
        ("rl", "rl.scale_rewards=none", "scale_rewards", "none"),
        ("rl", "tuning.optimizer=paged_adamw_8bit", "optim", "paged_adamw_8bit"),
        ("sft", "tuning.optimizer=adamw_8bit", "optim", "adamw_bnb_8bit"),
        ("sft", "seed=3", "run_name", "run/sft"),
        ("rl", "seed=3", "run_name", "run/rl"),
    ],
)
def test_every_option_reaches_the_config(arguments, stage, override, name, value):
    assert getattr(arguments(stage, override), name) == value
    assert getattr(arguments(stage), name) != value or name == "run_name"


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_learning_rate_of_rl_rises_in_the_warm_up(arguments, schedule):
    made = arguments("rl", f"rl.scheduler={schedule}", "rl.warmup_ratio=0.4", "rl.steps=10")
    optimiser = torch.optim.SGD([torch.zeros(1)], made.learning_rate)
    schedule = get_scheduler(made.lr_scheduler_type, optimiser, made.warmup_steps, made.max_steps)
    rates = []
    for _ in range(10):
        rates.append(optimiser.param_groups[0]["lr"] / made.learning_rate)
        optimiser.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_qlora_reaches_the_model(arguments):
    made = arguments("rl", "tuning.lora_rank=8", "tuning.quantise=4bit")
    found = made.model_init_kwargs["quantization_config"]
    assert found.load_in_4bit and found.bnb_4bit_quant_type == "nf4"
    assert "quantization_config" not in arguments("rl").model_init_kwargs
    recipe = load_recipe(
        "tiny", ["tuning.lora_rank=8", "tuning.quantise=4bit", "rl.rollouts=vllm-server"]
    )
    with pytest.raises(UserError, match=r"quantise=4bit needs rl.rollouts=transformers"):
        check_rl(recipe)
    recipe = load_recipe("tiny", ["tuning.lora_rank=8", "tuning.quantise=8bit"])
    assert tuning.quantisation(recipe)["quantization_config"].load_in_8bit


@pytest.mark.parametrize("stage", ["rl", "sft"])
def test_fsdp2_refuses_adapters(arguments, monkeypatch, stage):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"FSDP2 .* unset tuning\.lora_rank"):
        arguments(stage, "tuning.lora_rank=8")


def test_the_adapters_of_a_quantised_model_stay_float32():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)).to(torch.bfloat16)
    model[0].requires_grad_(False)
    tuning.keep_adapters_float32(model)
    assert model[0].weight.dtype == torch.bfloat16 and model[1].weight.dtype == torch.float32


def test_rl_samples_and_scores_without_dropout(arguments):
    assert arguments("rl", "tuning.lora_rank=8", "tuning.lora_dropout=0.1").disable_dropout


def test_liger_reaches_sft(arguments, monkeypatch):
    seen = {}
    from p2r.training import sft

    monkeypatch.setattr(sft, "SFTConfig", lambda **settings: seen.update(settings))
    arguments("sft", "sft.liger=true")
    assert seen["use_liger_kernel"] is True


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["rl.epsilon_high=0.3"], "rl.epsilon_high would have no effect.*Set rl.updates=2"),
        (["rl.ratio=sequence"], "rl.ratio=sequence would have no effect"),
        (["rl.loss=cispo", "rl.epsilon_high=5"], "rl.loss=cispo would have no effect"),
        (["rl.loss=cispo", "rl.updates=2"], "needs the largest ratio"),
        (["rl.ratio=sequence", "rl.updates=2", "rl.loss=dr_grpo"], "needs rl.loss=grpo"),
        (["rl.updates=2", "rl.steps=3"], "rl.steps=3 must be a multiple"),
        (["rl.updates=2", "rl.validate_every=3"], "rl.validate_every=3 must be a multiple"),
        (["tuning.quantise=4bit"], "set tuning.lora_rank too"),
    ],
)
def test_options_without_effect_are_refused(overrides, said):
    with pytest.raises(P2RError, match=said):
        check_rl(load_recipe("tiny", overrides))


@pytest.mark.parametrize("setting", ["tuning.optimizer=adamw_8bit", "sft.liger=true"])
def test_a_missing_library_is_named(arguments, monkeypatch, setting):
    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"pip install -e '\.\[memory\]'"):
        arguments("sft", setting)


# ---- the loss


def batch(old, advantages):
    return {
        "old_per_token_logps": torch.tensor(old).log(),
        "advantages": torch.tensor(advantages),
        "weights": torch.ones(len(old), len(old[0])),
    }


def loss_and_gradient(given, probabilities, form):
    log_probs = torch.tensor(probabilities).log().requires_grad_()
    value, terms = loss(given, log_probs, 0.2, 0.0, form)
    value.backward()
    return value.item(), log_probs.grad, terms


def test_clip_higher_moves_the_upper_end_only():
    given = batch([[0.5, 0.5]], [[1.0, -1.0]])
    probabilities = [[0.65, 0.35]]  # ratios 1.3 and 0.7
    value, gradient, _ = loss_and_gradient(given, probabilities, LossForm())
    assert value == pytest.approx((-1.2 + 0.8) / 2) and gradient.tolist() == [[0, 0]]
    value, gradient, terms = loss_and_gradient(given, probabilities, LossForm(epsilon_high=0.4))
    assert value == pytest.approx((-1.3 + 0.8) / 2)
    assert gradient[0, 0].item() == pytest.approx(-1.3 / 2) and gradient[0, 1] == 0
    assert terms["clipped high"].sum() == 0 and terms["clipped low"].tolist() == [[0, 1]]


def test_cispo_caps_the_weight_and_keeps_every_gradient():
    given = batch([[0.1, 0.5]], [[1.0, 1.0]])
    form = LossForm("cispo", epsilon_high=2.0)
    _, gradient, terms = loss_and_gradient(given, [[0.4, 0.25]], form)  # ratios 4 and 0.5
    assert_close(gradient, torch.tensor([[-2.0 / 2, -0.5 / 2]]))
    assert terms["clipped high"].tolist() == [[1, 0]] and terms["clipped low"].sum() == 0


def test_dr_grpo_divides_by_one_length_and_not_by_the_deviation():
    given = batch([[0.5, 0.5]], [[1.0, 1.0]])
    value, _, _ = loss_and_gradient(given, [[0.5, 0.5]], LossForm("dr_grpo", max_tokens=8))
    assert value == pytest.approx(-2 / 8)
    rewards = [[3.0, 1.0], [1.0, 1.0]]
    found = credit_advantages("process", rewards, 2, scale=False)
    assert found.tolist() == [[1.0, 0.0], [-1.0, 0.0]]


def test_the_ratio_of_a_response_keeps_the_advantage_of_each_process():
    """GSPO-token: one ratio, here the root of 1.44 · 1; the gradient of a token is its own."""
    given = batch([[0.5, 0.5]], [[1.0, -1.0]])
    form = LossForm(level="sequence", epsilon_high=0.3)
    _, gradient, _ = loss_and_gradient(given, [[0.72, 0.5]], form)
    assert_close(gradient, torch.tensor([[-1.2 / 2, 1.2 / 2]]))


def test_with_equal_advantages_the_gradient_is_that_of_gspo():
    given = batch([[0.5, 0.4, 0.3]], [[1.0, 1.0, 1.0]])
    probabilities = [[0.55, 0.4, 0.3]]
    _, gradient, _ = loss_and_gradient(given, probabilities, LossForm(level="sequence"))
    log_probs = torch.tensor(probabilities).log().requires_grad_()
    ratio = (log_probs - given["old_per_token_logps"]).mean().exp()
    (-torch.min(ratio, ratio.clamp(0.8, 1.2))).backward()
    assert_close(gradient, log_probs.grad)
