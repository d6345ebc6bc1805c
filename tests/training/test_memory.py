"""Sizes and memory of models, compared with real modules and with measurements on the CPU."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.qwen2_vl import Qwen2VLVideoProcessor
from transformers.video_utils import VideoMetadata

from p2r import data
from p2r.families import family_of_model, published_configs, read_sizes
from p2r.families.sizes import (
    Architecture,
    count_adapters,
    count_parameters,
    count_trained,
    most_vision_tokens,
    vision_tokens,
)
from p2r.records import Question
from p2r.runs.recipe import TuningSettings
from p2r.training.memory import (
    GIB,
    Load,
    activation_memory,
    attention_memory,
    decoder_layer_memory,
    estimate_memory,
    fits,
    layer_memory,
    peak_memory,
    rollout_memory,
    state_memory,
)
from p2r.training.packing import accept_packed_rows, pack
from p2r.training.tuning import freeze_vision, lora_config
from p2r.video import Frames, fit_size

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow
# By name: the hub id, and the count that the hub shows for the model's safetensors.
MODELS = {
    "3b": ("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976),
    "7b": ("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656),
    "qwen3 4b": ("Qwen/Qwen3-VL-4B-Instruct", 4_437_815_808),
    "qwen3 8b": ("Qwen/Qwen3-VL-8B-Instruct", 8_767_123_696),
}
TEACHERS = [
    ("Qwen/Qwen2.5-VL-32B-Instruct", 33_452_718_336),
    ("Qwen/Qwen2.5-VL-72B-Instruct", 73_410_777_344),
]
SEVEN = read_sizes(published_configs()["Qwen/Qwen2.5-VL-7B-Instruct"])
TINY = {
    "sharding": "none",
    "gpus": 1,
    "wide": 4,
    "lora_rank": None,
    "freeze_vision": False,
    "reference": True,
    "recompute": False,
    "micro_batch": 2,
    "rollouts": 8,
    "prompts": 2,
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "patches": 256,
}


def meta_model(name: str) -> torch.nn.Module:
    """The model of the published config, without any weight."""
    with torch.device("meta"):
        config = AutoConfig.for_model(**published_configs()[MODELS[name][0]])
        return AutoModelForImageTextToText.from_config(config)


def sizes_of(name: str) -> Architecture:
    return read_sizes(published_configs()[MODELS[name][0]])


def trainable(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def bytes_of(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


# ---- parameters


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_real_model(name):
    model, counts = meta_model(name), count_parameters(sizes_of(name))
    assert sum(counts.values()) == trainable(model) == MODELS[name][1]
    assert counts["vision"] == trainable(model.model.visual)
    language = trainable(model.model.language_model)
    embeddings = model.get_input_embeddings().weight.numel()
    assert counts["decoder"] == language - embeddings
    assert counts["embeddings"] == embeddings * (1 if name in ("3b", "qwen3 4b") else 2)


@pytest.mark.parametrize(("name", "published"), TEACHERS)
def test_parameters_of_the_teachers_are_those_of_the_hub(name, published):
    assert sum(count_parameters(read_sizes(published_configs()[name])).values()) == published


@pytest.mark.parametrize("name", MODELS)
def test_trained_parameters_with_a_frozen_vision_tower(name):
    model = meta_model(name)
    freeze_vision(model)
    sizes = sizes_of(name)
    assert count_trained(sizes, None, True) == trainable(model)
    assert count_trained(sizes, None, False) == sum(count_parameters(sizes).values())


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_trained_parameters_with_adapters(name, frozen):
    model = meta_model(name)
    with torch.device("meta"):
        tuning = TuningSettings(lora_rank=16, freeze_vision=frozen)
        model.add_adapter(lora_config(tuning, family_of_model(model)))
    sizes = sizes_of(name)
    assert count_adapters(sizes, 16, frozen) == count_trained(sizes, 16, frozen) == trainable(model)


@pytest.mark.parametrize("folder", ["model_folder", "qwen3_folder"])
def test_the_sizes_of_a_saved_model_are_read_from_its_config(folder, request):
    """transformers saves the decoder's sizes in a separate section."""
    model = data.load_model(request.getfixturevalue(folder))
    counts = count_parameters(read_sizes(model.config.to_dict()))
    assert sum(counts.values()) == trainable(model)


# ---- tokens


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (1920, 1080), (480, 480), (90, 1000)])
@pytest.mark.parametrize("frames", [1, 7, 16])
def test_tokens_of_a_video_are_the_processors(frames, height, width):
    pixels = 32 * 28 * 28
    height, width = fit_size(height, width, pixels, 28)
    processor = Qwen2VLVideoProcessor(patch_size=14, merge_size=2, temporal_patch_size=2)
    made = processor(
        [torch.zeros(frames, 3, height, width, dtype=torch.uint8)],
        do_resize=False,
        do_sample_frames=False,
        cap_pixels_per_frame=False,
        video_metadata=[VideoMetadata(total_num_frames=frames, fps=2.0)],
    )
    tokens = int(made["video_grid_thw"].prod()) // 4
    assert vision_tokens(SEVEN, frames, height, width) == tokens
    assert tokens <= most_vision_tokens(SEVEN, frames, pixels)


def test_the_papers_frames_make_1024_tokens_at_most():
    assert most_vision_tokens(SEVEN, 16, 128 * 28 * 28) == 1024


# ---- memory, measured


@pytest.mark.parametrize(
    "tuning",
    [
        TuningSettings(),
        TuningSettings(freeze_vision=True),
        TuningSettings(lora_rank=4),
        TuningSettings(lora_rank=4, freeze_vision=True),
    ],
)
def test_weights_gradients_and_optimiser_are_exact(tuning):
    """Exact to the byte, on the playground's model in float32."""
    model = data.load_model("playground/base")
    if tuning.freeze_vision:
        freeze_vision(model)
    if tuning.lora_rank:
        model.add_adapter(lora_config(tuning, family_of_model(model)))
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, foreach=False)
    for weight in trained:
        weight.grad = torch.ones_like(weight)
    optimiser.step()
    moments = [
        value for state in optimiser.state.values() for value in state.values() if value.dim()
    ]
    load = Load(**{**TINY, **tuning.model_dump(include={"lora_rank", "freeze_vision"})})
    estimate = state_memory(read_sizes(model.config.to_dict()), load)
    assert estimate["weights"] == bytes_of(model.parameters())
    assert estimate["gradients"] == bytes_of(weight.grad for weight in trained)
    assert estimate["optimiser"] == bytes_of(moments)
    whole = bytes_of(data.load_model("playground/base").parameters())
    assert estimate["reference"] == (0 if tuning.lora_rank else whole)


def kept_for_backward(model, forward) -> int:
    """Return the bytes that a forward pass keeps for its backward pass, without weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept, sizes = [], {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept.append(tensor)  # so that no other takes its place
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(sizes.values())


@pytest.mark.parametrize(
    ("dtype", "adapted", "autocast"),
    [
        (torch.float32, False, False),
        (torch.float32, True, False),
        (torch.float32, False, True),
        (torch.bfloat16, True, True),
    ],
)
def test_activations_of_a_layer_are_within_a_fifth(dtype, adapted, autocast):
    model = data.load_model("playground/base", dtype).train()
    if adapted:
        model.add_adapter(lora_config(TuningSettings(lora_rank=4), family_of_model(model)))
    sizes = read_sizes(model.config.to_dict())
    decoder, tower = model.model.language_model, model.model.visual
    wide = 2 if autocast else 4

    states = torch.randn(2, 1000, sizes.hidden, dtype=dtype, requires_grad=True)
    angles = decoder.rotary_emb(states, torch.arange(1000)[None, None].expand(3, 2, -1))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        kept = kept_for_backward(
            model, lambda: decoder.layers[1](states, position_embeddings=angles)
        )
    estimate = layer_memory(2000, sizes.hidden, sizes.intermediate, sizes.kv, wide, adapted)
    assert estimate == pytest.approx(kept, rel=0.2)

    width = sizes.vision_hidden
    patches = torch.randn(2048, width, dtype=dtype, requires_grad=True)
    turn = torch.randn(2048, width // 4)
    bounds = torch.arange(0, 2049, 256, dtype=torch.int32)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        kept = kept_for_backward(
            model,
            lambda: tower.blocks[1](patches, cu_seqlens=bounds, position_embeddings=(turn, turn)),
        )
    estimate = layer_memory(2048, width, sizes.vision_intermediate, width, wide, adapted)
    assert estimate == pytest.approx(kept, rel=0.2)


@pytest.mark.parametrize(
    ("family", "frozen", "adapted", "recompute"),
    [
        *itertools.product(["qwen2_5_vl"], [False, True], [False, True], [False, True]),
        ("qwen3_vl", False, False, False),
        ("qwen3_vl", True, True, True),
    ],
)
def test_activations_of_a_whole_pass_are_within_a_seventh(
    family, frozen, adapted, recompute, qwen3_folder
):
    """Of eight responses to two prompts with a video, up to the LM head, as a packed row."""
    name = qwen3_folder if family == "qwen3_vl" else "playground/base"
    model, processor = data.load_model(name).train(), data.load_processor(name)
    if adapted:
        tuning = TuningSettings(lora_rank=4, freeze_vision=frozen)
        model.add_adapter(lora_config(tuning, family_of_model(model)))
    if frozen:
        freeze_vision(model)
    if recompute:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()  # as peft has it: else nothing before the adapters is
    accept_packed_rows(model)
    noise = np.random.default_rng(0).integers(0, 255, (8, 56, 56, 3), dtype=np.uint8)
    places = list(range(8))
    frames = Frames(noise, [i / 2 for i in places], places, 2.0, 4.0, 8, "pyav", "x.mp4")
    ask = {"path": "x.mp4", "problem_type": "numerical", "answer": "2"}
    questions = [Question(id=text, problem=text, **ask) for text in ("How many?", "How many red?")]
    encoded = data.encode_prompts(processor, questions, [frames] * 2, "brief")
    rows, response, prompt = [0] * 4 + [1] * 4, 160, encoded["input_ids"].size(1)
    batch = {
        key: torch.nn.functional.pad(encoded[key][rows], (0, response), value=value)
        for key, value in (("input_ids", 20), ("attention_mask", 1), ("mm_token_type_ids", 0))
    }
    prompts = [{key: encoded[key][row] for key in data.VISION_KEYS} for row in range(2)]
    vision = [prompts[row] for row in rows]

    def forward():
        packed = pack(model, *batch.values(), response, vision)
        del packed.inputs["shift_labels"]
        model.model(**packed.inputs, use_cache=False)

    kept = kept_for_backward(model, forward)
    sizes = read_sizes(model.config.to_dict())
    changed = {
        "micro_batch": 8,
        "prompt_tokens": prompt,
        "completion_tokens": response,
        "lora_rank": 4 if adapted else None,
    }
    load = Load(**{**TINY, **changed, "recompute": recompute, "freeze_vision": frozen})
    elsewhere = 4 * sizes.vocabulary * 8 * response  # the LM head
    if not adapted:
        elsewhere += 4 * sizes.vocabulary * sizes.hidden
    if recompute:  # the layer that is computed a second time, later
        tokens = 2 * prompt + 8 * response
        elsewhere += decoder_layer_memory(sizes, tokens, load) + attention_memory(sizes, load)
    assert activation_memory(sizes, load) - elsewhere == pytest.approx(kept, rel=0.15)


def test_the_cache_of_rollouts_is_exact():
    """The estimate grows per token by the size of the model's cache for one token."""
    model = data.load_model("playground/base")
    ids = torch.full((8, 150), 20)
    with torch.no_grad():
        cache = model(input_ids=ids, use_cache=True).past_key_values
    held = sum(bytes_of((layer.keys, layer.values)) for layer in cache.layers)
    sizes = read_sizes(model.config.to_dict())
    more = rollout_memory(sizes, Load(**{**TINY, "completion_tokens": 51}))
    less = rollout_memory(sizes, Load(**TINY))
    assert (more - less) * 150 == held


# ---- memory, by the rules of sharding


def large(**changed) -> Load:
    paper = {
        **TINY,
        "wide": 2,
        "recompute": True,
        "micro_batch": 1,
        "rollouts": 7,
        "prompt_tokens": 1300,
        "completion_tokens": 768,
        "patches": 4096,
    }
    return Load(**{**paper, **changed})


def test_sharding_divides_the_states():
    whole = state_memory(SEVEN, large())
    parameters = sum(count_parameters(SEVEN).values())
    assert sum(whole.values()) == 20 * parameters, "16 bytes and a reference of 4 each"
    eighth = state_memory(SEVEN, large(sharding="fsdp2", gpus=8))
    assert all(eighth[part] == size // 8 for part, size in whole.items())
    deepspeed = state_memory(SEVEN, large(sharding="zero3", gpus=8))
    assert deepspeed["weights"] == deepspeed["gradients"] == 2 * parameters // 8
    assert deepspeed["optimiser"] == 12 * parameters // 8, "float32 masters among them"


def test_adapters_need_neither_reference_nor_states_of_the_rest():
    parts = state_memory(SEVEN, large(lora_rank=64, freeze_vision=True))
    adapters = count_adapters(SEVEN, 64, True)
    assert parts["reference"] == 0
    assert parts["gradients"] == 4 * adapters and parts["optimiser"] == 8 * adapters
    assert parts["weights"] == 2 * 8_292_166_656 + 4 * adapters


def test_checkpointing_saves_memory_and_a_frozen_tower_keeps_nothing():
    all_kept = activation_memory(SEVEN, large(recompute=False))
    assert activation_memory(SEVEN, large()) < all_kept / 5
    seeing = activation_memory(SEVEN, large(micro_batch=4))
    blind = activation_memory(SEVEN, large(micro_batch=4, freeze_vision=True))
    assert seeing - blind == 4096 * SEVEN.vision_hidden * (4 * SEVEN.vision_layers + 14)


def test_the_peak_counts_only_the_larger_phase():
    parts = estimate_memory(SEVEN, large(sharding="zero3", gpus=8))
    assert parts["rollouts"] > parts["activations"] > 0
    assert peak_memory(parts) == sum(parts.values()) - parts["activations"]


def test_vllm_inside_the_trainer_has_its_own_weights_and_cache():
    ours = estimate_memory(SEVEN, large(lora_rank=64, freeze_vision=True))
    theirs = estimate_memory(SEVEN, large(lora_rank=64, freeze_vision=True, sampler="vllm"))
    # Keys and values of 4 heads of 128 in 28 layers, 2 bytes each.
    cache = 7 * (1300 + 768) * 28 * 2 * 4 * 128 * 2
    assert theirs.pop("vllm") == 2 * 8_292_166_656 + cache
    assert theirs == {**ours, "rollouts": 0}
    assert estimate_memory(SEVEN, large(sampler="vllm-server"))["rollouts"] == 0


def test_vllm_must_fit_its_share_of_the_card_and_the_trainer_the_rest():
    parts = {"weights": 20 * GIB, "activations": 20 * GIB, "rollouts": 0, "vllm": 16 * GIB}
    assert fits(parts, 80, 0.3)  # 24 for vLLM, 40 of the other 48
    assert not fits(parts, 80, 0.1), "8 for 16"
    assert not fits(parts, 80, 0.5), "the trainer has 32 for 40"
    assert fits(parts, 80, 0.5, sleeps=True), "20 + 40 while it samples, 20 + 20 while it trains"
    assert not fits(parts, 80, 0.7, sleeps=True), "20 + 56 while it samples, of 72"
    assert not fits({**parts, "activations": 60 * GIB}, 80, 0.3, sleeps=True), "80 while it trains"
    assert peak_memory(parts, sleeps=True) == 40 * GIB < peak_memory(parts) == 56 * GIB


# ---- measured: the peak of a whole training


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[str, dict]:
    """The estimate and the peak of two trainings, by name."""
    # Return freed memory to the system at once; otherwise the peak depends on earlier work.
    at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    script = Path(__file__).parents[1] / "helpers" / "measure_rl.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path_factory.mktemp("measured"))],
        capture_output=True, text=True, timeout=800,
        env={**os.environ, **at_once, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
    return {found["name"]: found for found in map(json.loads, lines)}


@pytest.mark.parametrize("name", ["all weights", "adapters"])
def test_the_peak_of_a_training_is_within_a_seventh_of_the_estimate(measured, name):
    found = measured[name]
    if found["measured"] is None:
        pytest.skip("this system does not report the peak memory of an OS process")
    assert found["estimate"] == pytest.approx(found["measured"], rel=0.15), found
