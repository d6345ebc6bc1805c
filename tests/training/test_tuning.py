"""Adapters and a frozen vision tower: only the trained weights change."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from peft import get_peft_model
from small import read_lines, small_recipe, stopped_at_line
from test_sft import cases_of

from p2r import data
from p2r.families import family_of_model
from p2r.training.grpo import train_grpo
from p2r.training.sft import train_sft
from p2r.training.tuning import checkpoint_limit, lora_config, merged_weights
from p2r.training.vllm_rollouts import VllmRollouts
from p2r.video import FrameCache

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]

LORA = ("tuning.lora_rank=4", "tuning.lora_alpha=8")
FROZEN = ("tuning.freeze_vision=true",)
SFT = ("sft.max_steps=2", "sft.batch_size=2", "sft.learning_rate=1e-2", "sft.save_steps=1")
RL = (
    "rl.steps=2",
    "rl.prompts_per_step=2",
    "rl.group_size=4",
    "rl.micro_batch=8",
    "rl.max_tokens=24",
    "rl.learning_rate=1e-2",
    "rl.save_steps=1",
    "rl.credit=outcome",
)


def sft(model, media, questions, out, *overrides):
    recipe = small_recipe(model, *SFT, *overrides)
    return train_sft(recipe, cases_of(questions[:2]), out, data_root=media)


def rl(model, media, questions, out, *overrides):
    recipe = small_recipe(model, *RL, *overrides)
    asked = [questions[0], questions[2]]
    return train_grpo(recipe, asked, model, out, judge=None, data_root=media)


def changed(start, trained):
    """Return the parts of a model ("visual", "layers", "rest") with any changed bit."""
    before, after = (data.load_model(folder).state_dict() for folder in (start, trained))
    assert before.keys() == after.keys()
    parts = set()
    for name, tensor in before.items():
        if not torch.equal(tensor, after[name]):
            where = [part for part in ("visual", "layers") if part in name]
            parts.add(where[0] if where else "rest")
    return parts


def assert_loads_like_any_other(folder):
    """Check for complete safetensors weights, a processor, and no files of adapters."""
    names = {file.name for file in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not {name for name in names if "adapter" in name}
    assert {file.name for file in folder.parent.iterdir() if file.name.startswith(".")} == set()
    data.load_processor(folder)
    return data.load_model(folder)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ((), {"visual", "layers", "rest"}),
        (FROZEN, {"layers", "rest"}),
        (LORA, {"visual", "layers"}),
        ((*LORA, *FROZEN), {"layers"}),
    ],
)
def test_sft_changes_what_the_recipe_trains(
    overrides, parts, model_folder, media, questions, tmp_path
):
    trained = sft(model_folder, media, questions, tmp_path / "sft", *overrides)
    assert_loads_like_any_other(trained)
    assert changed(model_folder, trained) == parts


@pytest.mark.parametrize(
    ("overrides", "parts"), [(FROZEN, {"layers", "rest"}), ((*LORA, *FROZEN), {"layers"})]
)
def test_rl_changes_what_the_recipe_trains(
    overrides, parts, taught_folder, media, questions, tmp_path
):
    trained = rl(taught_folder, media, questions, tmp_path / "rl", *overrides)
    assert_loads_like_any_other(trained)
    assert changed(taught_folder, trained) == parts
    kl = [row["kl"] for row in read_lines(tmp_path / "rl" / "metrics.jsonl")]
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[1] > 1e-4, "away from the start model"


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_adapters_resume_from_a_checkpoint(stage, taught_folder, media, questions, tmp_path):
    def train(out):
        kind = {"sft": sft, "rl": rl}[stage]
        kind(taught_folder, media, questions, out, *LORA, "sft.max_steps=4", "rl.steps=4")

    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(whole)
    with stopped_at_line(3):
        train(resumed)
    assert not (resumed / "model").exists()
    train(resumed)
    rows = [read_lines(folder / "metrics.jsonl") for folder in (whole, resumed)]
    for name in ("step", "loss", "grad_norm"):
        assert [row[name] for row in rows[1]] == [row[name] for row in rows[0]], "bit for bit"
    ends = [data.load_model(folder / "model").state_dict() for folder in (whole, resumed)]
    assert all(torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())


@pytest.mark.parametrize("overrides", [FROZEN, LORA, (*LORA, *FROZEN)])
def test_tuning_works_with_the_settings_of_large_models(
    overrides, taught_folder, media, questions, tmp_path
):
    """In bfloat16 and with gradient checkpointing."""
    more = ("models.dtype=bfloat16",)
    trained = rl(taught_folder, media, questions, tmp_path / "rl", *overrides, *more)
    assert_loads_like_any_other(trained)
    norms = [row["grad_norm"] for row in read_lines(tmp_path / "rl" / "metrics.jsonl")]
    assert any(norm > 0 for norm in norms)


def test_without_its_adapters_the_policy_is_the_start_model(
    taught_folder, media, questions, tmp_path
):
    """So the KL term needs no second model."""
    recipe = small_recipe(taught_folder, *LORA)
    processor = data.load_processor(taught_folder)
    frames = data.read_frames(
        questions[0], root=media, cache=FrameCache(None), **data.train_settings(recipe.video)
    )
    batch = data.encode_prompts(processor, [questions[0]], [frames], "brief")
    inputs = data.to_model_inputs(batch)
    model = data.load_model(taught_folder)
    with torch.no_grad():
        start = model(**inputs).logits
        model.add_adapter(lora_config(recipe.tuning, family_of_model(model)))
        assert torch.equal(model(**inputs).logits, start), "new adapters change nothing"
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.02)
        assert not torch.allclose(model(**inputs).logits, start, atol=1e-2)
        model.disable_adapters()
        assert torch.equal(model(**inputs).logits, start)


def test_vllm_gets_weights_with_adapters_and_the_trainer_keeps_its_own(taught_folder):
    """Also if the weights are used after all have been read, as a file and NCCL do."""
    recipe = small_recipe(taught_folder, *LORA)
    start = data.load_model(taught_folder, torch.bfloat16)
    names = [name for name, _ in start.named_parameters()]
    model = get_peft_model(start, lora_config(recipe.tuning, family_of_model(start)))
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.01 * torch.randn(weight.shape, generator=noise))
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    rollouts = object.__new__(VllmRollouts)
    rollouts.model, rollouts._dist = model, SimpleNamespace(gather_params=lambda _: nullcontext())
    for _ in range(3):
        sent = dict(rollouts._iter_named_params())
    assert list(sent) == names
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]), name
    merged = dict(model.float().merge_and_unload().named_parameters())
    plain = dict(data.load_model(taught_folder, torch.bfloat16).named_parameters())
    assert any(not torch.equal(weight, plain[name]) for name, weight in sent.items())
    for name, weight in sent.items():
        assert torch.equal(weight, merged[name].bfloat16()), name


def test_each_divided_weight_is_gathered_with_its_adapter(taught_folder):
    model = data.load_model(taught_folder)
    recipe = small_recipe(taught_folder, *LORA)
    model = get_peft_model(model, lora_config(recipe.tuning, family_of_model(model)))
    gathered = []
    for _ in merged_weights(model, lambda parts: gathered.append(parts) or nullcontext()):
        pass
    assert {len(parts) for parts in gathered} == {1, 3}
    every = {id(part) for parts in gathered for part in parts}
    assert every == {id(weight) for weight in model.parameters()}


def test_the_best_checkpoint_is_kept_in_addition_to_the_newest():
    assert [checkpoint_limit(keep, False) for keep in ("best", "last 1", "last 3", "all")] == [
        2,
        2,
        3,
        None,
    ]
    assert [checkpoint_limit(keep, True) for keep in ("best", "last 3", "all")] == [3, 4, None]
