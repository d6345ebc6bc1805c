"""Measure the peak memory of short RL trainings of a model that is large enough to see.

    python tests/helpers/measure_rl.py FOLDER

Trains all weights, then adapters, each in a fork of this OS process. For each of them it prints a
line of JSON: the estimate by part, their peak and what was measured above the libraries (MiB).
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

import p2r.training  # noqa: F401  # isort: skip  (first: it applies the patches that TRL needs)

import torch
from small import small_recipe, write_video
from small_rl import RuleJudge
from transformers import Qwen2_5_VLForConditionalGeneration

from p2r.files.peak_memory import MIB, measured_peak
from p2r.playground.tiny_model import build_model, build_processor, build_tokenizer
from p2r.records import Question
from p2r.template import render
from p2r.training.grpo import train_grpo
from p2r.training.memory import peak_memory
from p2r.training.plan import plan_rl

SETTINGS = {"all weights": [], "adapters": ["tuning.lora_rank=4"]}
STEP = (
    "rl.steps=2",  # the optimiser's states are there from the first on
    "rl.prompts_per_step=2",
    "rl.group_size=4",
    "rl.micro_batch=4",  # of two: the gradients of the first are there in the second
    "rl.max_tokens=64",
)


def save_model(folder: Path, width: int = 576, layers: int = 8) -> None:
    """The playground's architecture, twice as deep and three times as wide, untaught."""
    corpus = [render("I see two.", "So.", "2"), "How many? What is the colour of the red one?"] * 4
    tokenizer = build_tokenizer(corpus, vocabulary=320)
    build_processor(tokenizer).save_pretrained(folder)
    config = build_model(tokenizer).config
    config.text_config.update(
        {
            "hidden_size": width,
            "num_attention_heads": width // 32,
            "num_key_value_heads": width // 64,
            "intermediate_size": width * 8 // 3,
            "num_hidden_layers": layers,
            "layer_types": ["full_attention"] * layers,
        }
    )
    config.vision_config.update({"out_hidden_size": width})
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)


def resident() -> float:
    """MiB of this process."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if "VmRSS" in line).split()[1]) / 1024


def main(folder: Path) -> None:
    save_model(folder / "model")
    save_model(folder / "small", width=192, layers=1)
    questions = []
    for seed in range(2):
        write_video(folder / f"{seed}.mp4", count=8, height=56, width=56, rate=2, seed=seed)
        ask = {"problem": "How many?", "problem_type": "numerical", "answer": "2"}
        questions.append(Question(id=str(seed), path=f"{seed}.mp4", **ask))
    for name, overrides in SETTINGS.items():
        child = os.fork()
        if not child:
            print(json.dumps({"name": name, **measure(folder, name, questions, overrides)}))
            sys.stdout.flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, name


def measure(
    folder: Path, name: str, questions: list[Question], overrides: list[str]
) -> dict[str, object]:
    """Return the estimate and the measured peak of one training."""
    where = {"judge": RuleJudge(), "data_root": folder}
    recipe = small_recipe(folder / "model", *STEP, *overrides)
    plan = plan_rl(recipe, questions=questions)
    # Libraries load parts of themselves when they are first used: not counted.
    first = small_recipe(folder / "small", *STEP, *overrides, "rl.max_tokens=2")
    train_grpo(first, questions, folder / "small", folder / name / "first", **where)
    before = resident()
    with measured_peak(torch.device("cpu")) as peak:
        train_grpo(recipe, questions, folder / "model", folder / name / "rl", **where)
    return {
        "parts": {part: round(size / MIB) for part, size in plan.memory.items()},
        "estimate": round(peak_memory(plan.memory) / MIB),
        "measured": peak["memory"] and round(peak["peak_mib"] - before),
    }


if __name__ == "__main__":
    gc.set_threshold(700, 10, 10)  # Python's default; `sitecustomize.py` sets another
    main(Path(sys.argv[1]))
