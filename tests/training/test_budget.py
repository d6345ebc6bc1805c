"""The plan of all stages: memory, time and judge cost, without weights and without network."""

from __future__ import annotations

import pytest

from p2r.cli import run_cli
from p2r.errors import UserError
from p2r.runs.recipe import load_recipe
from p2r.training import budget
from p2r.training.budget import describe_time, judge_cost, plan_stages
from p2r.training.memory import GIB, fits
from p2r.training.plan import plan_rl

STAGES = ["generate", "filter", "sft", "rl", "eval"]
PRESETS = [
    ("qwen2.5-vl-3b-1x24gb", 1, 24),
    ("qwen2.5-vl-7b-1x80gb", 1, 80),
    ("qwen2.5-vl-7b-8x80gb", 8, 80),
    ("qwen3-vl-8b-1x80gb", 1, 80),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def stages_of(name: str, gpus: int = 1, *overrides: str, card: int | None = None):
    planned = plan_stages(load_recipe(name, list(overrides)), gpus, card=card)
    return {stage.stage: stage for stage in planned.stages}


@pytest.mark.parametrize(("name", "gpus", "card"), PRESETS)
@pytest.mark.parametrize("preset", ["", "+local-judge"])
def test_every_stage_of_a_preset_fits_its_cards_and_uses_vllm(name, gpus, card, preset):
    recipe = load_recipe(name + preset)
    planned = plan_stages(recipe, gpus)
    assert [stage.stage for stage in planned.stages] == STAGES and planned.card == card
    for stage in planned.stages:
        assert not stage.gpus or card in stage.cards, stage
        assert stage.gpus <= gpus
    assert recipe.generate.engine == recipe.eval.engine == recipe.rl.rollouts == "vllm"


@pytest.mark.parametrize(("name", "gpus", "card"), PRESETS)
def test_doctor_shows_all_stages(name, gpus, card, capsys):
    assert run_cli(["doctor", "--recipe", name, "--gpus", str(gpus)]) == 0
    said = capsys.readouterr().out
    assert f"all stages on {gpus} GPU(s) of {card} GB; estimates, ±40% (time)" in said
    assert all(f"\n {stage} " in said for stage in STAGES)
    assert "yes" in said and "≤ 56,000" in said


def test_a_teacher_that_does_not_fit_is_shown():
    large = "models.teacher=Qwen/Qwen2.5-VL-72B-Instruct"
    assert stages_of("qwen2.5-vl-7b-1x80gb", 1, large)["generate"].cards == ()
    assert 80 in stages_of("qwen2.5-vl-7b-8x80gb", 8, large)["generate"].cards
    # transformers loads a model on one GPU
    whole = stages_of("qwen2.5-vl-7b-8x80gb", 8, "generate.engine=transformers")["generate"]
    assert whole.gpus == 1 and whole.cards == () and whole.peak > 136 * GIB


def test_the_rl_stage_is_the_plan_of_rl():
    recipe = load_recipe("qwen2.5-vl-7b-1x80gb")
    assert plan_stages(recipe).rl == plan_rl(recipe)
    assert stages_of(recipe.name)["rl"].cards == (80,)
    assert fits(plan_rl(recipe).memory, 80, recipe.vllm.rollout_memory)


def test_sft_needs_less_memory_than_rl_and_follows_its_batch():
    small, large = (
        stages_of("qwen2.5-vl-7b-1x80gb", 1, f"sft.batch_size={size}") for size in (1, 8)
    )
    assert small["sft"].peak < large["sft"].peak
    assert small["sft"].peak < small["rl"].peak
    assert small["sft"].seconds == large["sft"].seconds, "the global batch is the same"


def test_times_follow_the_work_and_the_gpus():
    one, many = stages_of("qwen2.5-vl-7b-8x80gb", 1, card=80), stages_of("7b-8x80gb", 8, card=80)
    assert one["sft"].seconds == pytest.approx(8 * many["sft"].seconds)
    half = stages_of("7b-8x80gb", 8, "generate.questions=130000", "rl.steps=500", card=80)
    for stage in ("generate", "filter", "sft", "rl"):
        assert half[stage].seconds == pytest.approx(many[stage].seconds / 2, rel=1e-3)


def test_the_paper_s_training_takes_hours_not_minutes():
    """The paper: 18 h for 1,000 steps on 8 A100, 7 of which train, with longer judge waits."""
    seconds = stages_of("7b-8x80gb", 8, card=80)["rl"].seconds
    assert 4 * 3600 < seconds < 25 * 3600


def test_rollouts_of_several_updates_are_sampled_and_judged_once():
    one, two = (
        stages_of("7b-8x80gb", 8, f"rl.updates={updates}", "rl.steps=1000", card=80)["rl"]
        for updates in (1, 2)
    )
    assert one.calls == 2 * two.calls > 0
    assert 0.5 * one.seconds < two.seconds < one.seconds


def test_judge_cost_is_tokens_times_price(monkeypatch):
    monkeypatch.setattr(budget, "build_judge_prompt", lambda *_: "x" * 3500)  # 1,000 tokens
    priced = load_recipe("7b", ["judging.model=m", "judging.prices={m: [3.0, 10.0]}"])
    each = (1000 * 3.0 + budget.USUAL_REPLY * 10.0) / 1e6
    assert judge_cost(priced, "claude", 500) == pytest.approx(500 * each)
    assert judge_cost(priced, "claude", 500, batch=True) == pytest.approx(250 * each)
    assert judge_cost(priced, "panel:claude,oracle,claude", 1) == pytest.approx(2 * each)
    assert judge_cost(priced, "oracle", 500) == 0
    for host in ("127.0.0.1", "127.0.0.2", "localhost", "[::1]"):
        assert judge_cost(priced, f"server:http://{host}:8001/v1#other", 500) == 0
    assert judge_cost(priced, "server:https://example.org/x//127.0.0.1#other", 500) is None
    assert judge_cost(priced, "server:https://example.org/v1#other", 500) is None


@pytest.mark.parametrize("credit", ["outcome", "temporal"])
def test_a_credit_without_perception_asks_no_paid_judge(credit):
    settings = ("7b-8x80gb", 8, f"rl.credit={credit}", "rl.judge=claude")
    assert stages_of(*settings)["rl"].calls == 0
    assert stages_of(*settings, "rl.judge_always=true")["rl"].calls > 0


def test_the_shuffled_group_of_t_grpo_takes_time():
    usual, more = (
        stages_of("7b-8x80gb", 8, f"rl.credit={credit}")["rl"].seconds
        for credit in ("outcome", "temporal")
    )
    assert usual < more < 1.5 * usual


def test_an_unknown_card_is_an_error():
    with pytest.raises(UserError, match="no card of 16 GB is known: use one of 24, 80"):
        plan_stages(load_recipe("7b"), 8, card=16)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(10, "under 1 min"), (600, "6–14 min"), (3600 * 2, "1.2–2.8 h"), (3600 * 50, "30–70 h")],
)
def test_times_have_an_error(seconds, text):
    assert describe_time(seconds) == text
