"""Checks and measures training paths of Qwen2.5-VL on one GPU, in ten minutes and without network.

    python benchmarks/gpu.py --out gpu.json
    python benchmarks/gpu.py --shape 3b --budget 240 --out 3b.json
    python benchmarks/gpu.py --shape tiny --device cpu --out tiny.json

The models have the shapes of Qwen2.5-VL-3B and -7B and random weights, so nothing is downloaded.
One prompt with a video of 16 frames has 8 rollouts of random tokens. For each shape:

1. Log-probs of the rollouts on every path are compared with the ordinary path: shared prompts (one
   packed row), with gradient checkpointing, new adapters (LoRA), trained adapters with shared
   prompts and with checkpointing. A path passes if the mean difference is at most `TOLERANCE`.
2. The parts of a step are timed: vision tower, sampling, log-probs, and an update (forward,
   backward, optimiser). The update runs with adapters, and on the 3B shape with all weights.
3. The peak memory of each update is divided by the estimate of `p2r doctor`.

A budget of seconds ends the work early: parts that do not fit are listed as skipped. The exit code
is 1 if a path differs. The result is one JSON file, also if the budget ends or a part fails.
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import p2r.training  # noqa: F401  isort: skip  (first: it applies the patches that TRL needs)
import peft
import torch
import transformers
import trl
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from trl.trainer.utils import selective_log_softmax

from p2r import data
from p2r.families import family_of_model, published_configs, read_sizes
from p2r.families.sizes import Architecture, count_parameters, vision_tokens
from p2r.files.atomic import write_json
from p2r.files.peak_memory import measured_peak
from p2r.runs.models import SHIPPED
from p2r.runs.recipe import Recipe, load_recipe
from p2r.training.memory import GIB, Load, estimate_memory, peak_memory
from p2r.training.packing import accept_packed_rows, pack
from p2r.training.tuning import freeze_vision, lora_config
from p2r.video import fit_size

TOLERANCE = {"bfloat16": 2e-2, "float32": 1e-4}  # mean difference of log-probs, in nats
GROUP = 8
TEXT_TOKENS = 279  # of a typical prompt, see `p2r.training.plan`


@dataclass(frozen=True)
class Shape:
    """A model's shape with the work that is measured on it."""

    name: str
    recipe: str
    completion: int
    sampled: int
    micro_batch: int
    full: bool


SHAPES = {
    "tiny": Shape("tiny", "tiny1", completion=24, sampled=8, micro_batch=4, full=True),
    "3b": Shape("3b", "qwen2.5-vl-3b-1x24gb", completion=500, sampled=64, micro_batch=4, full=True),
    "7b": Shape(
        "7b", "qwen2.5-vl-7b-1x80gb", completion=500, sampled=64, micro_batch=4, full=False
    ),
}


class Skipped(Exception):
    """The budget has no time left for a part."""


class Clock:
    """The budget of seconds."""

    def __init__(self, seconds: float) -> None:
        self.begun, self.seconds = time.perf_counter(), seconds

    def used(self) -> float:
        return time.perf_counter() - self.begun

    def check(self, needed: float) -> None:
        """Raise `Skipped` if fewer than `needed` seconds are left."""
        if self.used() + needed > self.seconds:
            raise Skipped(f"{needed:.0f} s do not fit into the budget of {self.seconds:.0f} s")


# ---- the model and its inputs


def config_of(shape: Shape) -> Qwen2_5_VLConfig:
    """Return the config of a shape, without any file from the network."""
    if shape.name == "tiny":
        return Qwen2_5_VLConfig.from_pretrained(SHIPPED / "base")
    sizes = dict(published_configs()[load_recipe(shape.recipe).models.base])
    vision = sizes.pop("vision_config")
    tied = sizes.pop("tie_word_embeddings")
    sizes.pop("model_type")
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    return Qwen2_5_VLConfig(
        text_config={
            **sizes,
            "rms_norm_eps": 1e-6,
            "rope_parameters": rope,
            "tie_word_embeddings": tied,
        },
        vision_config=vision,
        tie_word_embeddings=tied,
        vision_start_token_id=3,
        vision_end_token_id=4,
        image_token_id=6,
        video_token_id=7,
    )


def build_model(config: Qwen2_5_VLConfig, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a model with random weights, made on its device."""
    torch.manual_seed(0)
    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype)
    model.generation_config.eos_token_id = None  # every sample has the wanted length
    accept_packed_rows(model)
    return model.eval()


@dataclass
class Batch:
    """Rollouts of one prompt: model inputs, vision inputs of each row, and the prompt's length."""

    inputs: dict[str, torch.Tensor]
    vision: list[dict[str, Any]]
    prompt: int
    completion: int

    def rows(self, count: int) -> Batch:
        """Return the first rows."""
        inputs = {key: value[:count] for key, value in self.inputs.items()}
        return Batch(inputs, self.vision[:count], self.prompt, self.completion)

    def flat(self) -> dict[str, torch.Tensor]:
        """Return the vision inputs of all rows as the model takes them."""
        flat = {key: [row[key] for row in self.vision] for key in data.VISION_KEYS}
        return data.to_model_inputs(flat, self.inputs["input_ids"].device)


def build_batch(
    config: Qwen2_5_VLConfig, recipe: Recipe, shape: Shape, device: torch.device
) -> Batch:
    """Return `GROUP` rollouts of one prompt with a 16:9 video, of random tokens and patches."""
    sizes = read_sizes(config.to_dict())
    video, vision = recipe.video, config.vision_config
    height, width = fit_size(720, 1280, video.train_pixels, video.factor)
    grid = (
        -(-video.train_frames // vision.temporal_patch_size),
        height // vision.patch_size,
        width // vision.patch_size,
    )
    seen = vision_tokens(sizes, video.train_frames, height, width)
    generator = torch.Generator().manual_seed(0)
    text = TEXT_TOKENS if shape.name != "tiny" else 40
    random_ids = partial(torch.randint, 10, sizes.vocabulary, generator=generator)
    half = random_ids((1, text // 2))
    around = [torch.tensor([[token]]) for token in (3, 4)]
    video_ids = torch.full((1, seen), config.video_token_id)
    prompt = torch.cat([half, around[0], video_ids, around[1], half], 1).expand(GROUP, -1)
    ids = torch.cat([prompt, random_ids((GROUP, shape.completion))], 1).to(device)
    values = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    pixels = torch.randn(grid[0] * grid[1] * grid[2], values, generator=generator)
    row = {
        **dict.fromkeys(data.VISION_KEYS),
        "pixel_values_videos": pixels,
        "video_grid_thw": torch.tensor([grid]),
        "second_per_grid_ts": torch.tensor([1.0]),
    }
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": 2 * (ids == config.video_token_id).int(),
    }
    return Batch(inputs, [row] * GROUP, prompt.size(1), shape.completion)


# ---- the paths


def log_probs(model: Any, batch: Batch, shared: bool = False) -> torch.Tensor:
    """Return the log-probs of the completion tokens, (rows, tokens)."""
    ids, kept = batch.inputs["input_ids"], batch.completion + 1
    if not shared:
        output = model(**batch.inputs, **batch.flat(), use_cache=False, logits_to_keep=kept)
        return selective_log_softmax(output.logits[:, :-1].float(), ids[:, 1 - kept :])
    packed = pack(model, *batch.inputs.values(), batch.completion, batch.vision)
    labels = packed.inputs.pop("shift_labels")[0]
    scored = (labels != data.IGNORED).nonzero()[:, 0]
    output = model(**packed.inputs, use_cache=False, logits_to_keep=scored)
    found = selective_log_softmax(output.logits.float(), labels[None, scored])
    return found.view(len(ids), batch.completion)  # one group of equal lengths, in order


def compare_paths(model: Any, adapt: Callable[[Any], Any], batch: Batch, limit: float) -> dict:
    """Return the difference of each path from the ordinary one, in two rows.

    Paths of trained adapters are compared with the ordinary path of the same adapters.
    """
    pair = batch.rows(2)
    with torch.no_grad():
        ordinary = log_probs(model, pair)
        found = {"shared prompts": _difference(log_probs(model, pair, shared=True), ordinary)}
    found["checkpointing"] = _difference(_recomputed(model, pair), ordinary)
    adapted = adapt(model)
    with torch.no_grad():
        found["new adapters"] = _difference(log_probs(adapted, pair), ordinary)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:  # it is 0 in new adapters, which change nothing
                weight.normal_(std=0.01)
        changed = log_probs(adapted, pair)
        found["adapters, shared prompts"] = _difference(log_probs(adapted, pair, True), changed)
    found["adapters, checkpointing"] = _difference(_recomputed(adapted, pair), changed)
    for path in found.values():
        path["agrees"] = path["mean"] <= limit
    return found


def _recomputed(model: Any, batch: Batch) -> torch.Tensor:
    """Return log-probs of a packed row with gradient checkpointing; switch it off again."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    try:
        return log_probs(model, batch, shared=True).detach()
    finally:
        model.eval()
        model.gradient_checkpointing_disable()


def _difference(found: torch.Tensor, expected: torch.Tensor) -> dict[str, float]:
    gap = (found - expected).abs()
    return {"mean": gap.mean().item(), "max": gap.max().item()}


# ---- the measures


def timed(device: torch.device, work: Callable[[], Any], repeat: int = 3) -> float:
    """Return the median seconds of `work` after one warm-up."""
    seconds = []
    for _ in range(repeat + 1):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds[1:])[repeat // 2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_parts(model: Any, batch: Batch, shape: Shape, clock: Clock) -> dict[str, Any]:
    """Return seconds of the parts of a step that compute no gradient, and tokens per second."""
    device = batch.inputs["input_ids"].device
    one, micro = batch.rows(1), batch.rows(shape.micro_batch)
    dtype = next(model.parameters()).dtype
    pixels = one.flat()["pixel_values_videos"].to(dtype)
    grid = one.flat()["video_grid_thw"]
    found: dict[str, Any] = {}

    def sample() -> None:
        prompt = {key: value[:, : batch.prompt] for key, value in batch.inputs.items()}
        model.generate(
            **prompt, **batch.flat(), max_new_tokens=shape.sampled, do_sample=True, top_k=0
        )

    with torch.no_grad():
        clock.check(20)
        found["vision_s"] = timed(device, lambda: model.model.visual(pixels, grid_thw=grid))
        found["log_probs_s"] = timed(device, lambda: log_probs(model, micro))
        found["log_probs_shared_s"] = timed(device, lambda: log_probs(model, micro, True))
        clock.check(30)
        found["sampling_s"] = timed(device, sample, repeat=1)
    tokens = micro.inputs["input_ids"].numel()
    found["log_probs_tokens_per_s"] = tokens / found["log_probs_s"]
    found["sampled_tokens_per_s"] = GROUP * shape.sampled / found["sampling_s"]
    return found


def measure_update(
    model: Any, batch: Batch, shape: Shape, recipe: Recipe, sizes: Architecture, autocast: bool
) -> dict[str, Any]:
    """Return seconds, tokens per second and peak memory of an update of one micro-batch.

    `model` is in training mode. The first of three updates is a warm-up, so that the states of the
    optimiser are in memory.
    """
    device = batch.inputs["input_ids"].device
    micro = batch.rows(shape.micro_batch)
    recompute = recipe.models.dtype == "bfloat16"
    if recompute:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-6)

    def update() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss = -log_probs(model, micro, shared=True).mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    seconds = timed(device, update, repeat=1)
    with measured_peak(device) as peak:
        update()
    load = Load(
        sharding="none",
        gpus=1,
        wide=2 if recompute else 4,
        lora_rank=recipe.tuning.lora_rank,
        freeze_vision=recipe.tuning.freeze_vision,
        reference=False,
        recompute=recompute,
        micro_batch=shape.micro_batch,
        rollouts=shape.micro_batch,
        prompts=1,
        prompt_tokens=batch.prompt,
        completion_tokens=batch.completion,
        patches=len(batch.vision[0]["pixel_values_videos"]),
        sampler="vllm-server",
    )
    estimate = peak_memory(estimate_memory(sizes, load)) / GIB
    measured = peak["peak_mib"] / 1024 if peak["memory"] == "cuda" else None
    return {
        "update_s": seconds,
        "tokens_per_s": micro.inputs["input_ids"].numel() / seconds,
        "trained_parameters": sum(p.numel() for p in trained),
        "estimated_gib": estimate,
        "measured_gib": measured,
        "measured_over_estimated": measured / estimate if measured else None,
        "memory": peak,
    }


# ---- one shape


def measure_shape(shape: Shape, device: torch.device, clock: Clock, report: dict[str, Any]) -> None:
    """Add the results of a shape to `report`, part by part, so that a failure loses no part."""
    recipe = load_recipe(shape.recipe)
    config = config_of(shape)
    sizes = read_sizes(config.to_dict())
    dtype = getattr(torch, recipe.models.dtype)
    batch = build_batch(config, recipe, shape, device)
    report |= {
        "parameters": sum(count_parameters(sizes).values()),
        "dtype": recipe.models.dtype,
        "prompt_tokens": batch.prompt,
        "completion_tokens": batch.completion,
        "rollouts": GROUP,
        "micro_batch": shape.micro_batch,
    }
    clock.check(40)
    start = time.perf_counter()
    model = build_model(config, device, dtype)
    report["build_s"] = time.perf_counter() - start
    assert sum(p.numel() for p in model.parameters()) == report["parameters"]
    report["parts"] = time_parts(model, batch, shape, clock)
    adapters = recipe.model_copy(update={"tuning": _lora(recipe)})

    def adapt(base: Any) -> Any:
        adapted = peft.get_peft_model(base, lora_config(adapters.tuning, family_of_model(base)))
        if adapters.tuning.freeze_vision:
            freeze_vision(adapted)
        adapted.enable_input_require_grads()
        return adapted

    clock.check(30)
    adapted: list[Any] = []
    report["paths"] = compare_paths(
        model,
        lambda base: adapted.append(adapt(base)) or adapted[0],
        batch,
        TOLERANCE[recipe.models.dtype],
    )
    clock.check(30)
    report["adapters"] = measure_update(
        adapted[0], batch, shape, adapters, sizes, dtype != torch.float32
    )
    adapted.clear()
    del model
    _free(device)
    if shape.full:
        clock.check(60)
        whole = recipe.model_copy(
            update={
                "tuning": recipe.tuning.model_copy(
                    update={"lora_rank": None, "freeze_vision": False}
                )
            }
        )
        model = build_model(config, device, torch.float32)
        report["full"] = measure_update(model, batch, shape, whole, sizes, dtype != torch.float32)
        del model
        _free(device)


def _lora(recipe: Recipe) -> Any:
    rank = recipe.tuning.lora_rank or 8
    return recipe.tuning.model_copy(update={"lora_rank": rank})


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def measure(shapes: list[str], device: torch.device, budget: float, out: Path) -> dict[str, Any]:
    """Measure all shapes; write the report after each one."""
    clock = Clock(budget)
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "python": platform.python_version(),
        "versions": {each.__name__: each.__version__ for each in (torch, transformers, trl, peft)},
        "budget_s": budget,
        "shapes": {},
    }
    for name in shapes:
        found: dict[str, Any] = {}
        report["shapes"][name] = found
        try:
            measure_shape(SHAPES[name], device, clock, found)
        except Skipped as reason:
            found["skipped"] = str(reason)
        except Exception:  # one shape that fails must not lose the results of the others
            found["failed"] = traceback.format_exc()
        _free(device)
        report["seconds"] = clock.used()
        write_json(out, report)
    return report


def is_good(report: dict[str, Any]) -> bool:
    """Return whether no shape failed and every compared path agrees."""
    shapes = report["shapes"].values()
    paths = [path for shape in shapes for path in shape.get("paths", {}).values()]
    return (
        bool(paths)
        and all(path["agrees"] for path in paths)
        and not any("failed" in shape for shape in shapes)
    )


def print_report(report: dict[str, Any]) -> None:
    print(f"{report['device']}, {report['seconds']:.0f} s")
    for name, shape in report["shapes"].items():
        print(f"{name}: {shape.get('parameters', 0):,} parameters")
        for path, gap in shape.get("paths", {}).items():
            word = "agrees" if gap["agrees"] else "DIFFERS"
            print(f"  {path:<26} {word}, mean {gap['mean']:.2e}, max {gap['max']:.2e}")
        for part, value in shape.get("parts", {}).items():
            print(f"  {part:<26} {value:.3f}")
        for kind in ("adapters", "full"):
            if found := shape.get(kind):
                gib = found["measured_gib"]
                peak = "not measured" if gib is None else f"{gib:.1f}"
                print(
                    f"  update, {kind:<18} {found['update_s']:.3f} s, "
                    f"{found['tokens_per_s']:,.0f} tokens/s, peak {peak} GiB "
                    f"(estimate {found['estimated_gib']:.1f})"
                )
        for problem in ("skipped", "failed"):
            if problem in shape:
                print(f"  {problem}: {shape[problem]}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shape",
        action="append",
        choices=SHAPES,
        help="repeatable (default: 3b and 7b; tiny on a CPU)",
    )
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument(
        "--device", default=found, help="cuda or cpu (default: a GPU if it is there)"
    )
    parser.add_argument("--budget", type=float, default=480, help="seconds (default 480)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="the result file")
    options = parser.parse_args()
    shapes = options.shape or (["tiny"] if options.device == "cpu" else ["3b", "7b"])
    report = measure(shapes, torch.device(options.device), options.budget, options.out)
    print_report(report)
    return 0 if is_good(report) else 1


if __name__ == "__main__":
    sys.exit(main())
