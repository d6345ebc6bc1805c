"""Two workers on the CPU train like one, in every supported set-up: DDP, LoRA, ZeRO-2, ZeRO-3, FSDP2.

Each set-up is one start of the real `accelerate launch` with two workers over gloo, with the
shipped config where there is one. It trains SFT, then RL, on the tiny model. The data have a clip
that cannot be read, an image and a text-only question.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small import read_lines
from train_distributed import Job

from p2r import data
from p2r.records import Question

pytest_plugins = ["small_fixtures"]
pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [
    "sft.max_steps=3",
    "sft.accumulation=1",
    "sft.learning_rate=1e-4",
    "sft.save_steps=2",
    "rl.steps=3",
    "rl.prompts_per_step=3",
    "rl.group_size=4",
    "rl.micro_batch=2",
    "rl.max_tokens=24",
    "rl.learning_rate=1e-5",
    "rl.scheduler=constant",
    "rl.save_steps=2",
    "rl.preflight=1",
]
SETUPS = {  # name → (shipped config or None for DDP, further settings)
    "ddp": (None, []),
    "lora": (None, ["tuning.lora_rank=4"]),
    "zero2": ("zero2.yaml", []),
    "zero3": ("zero3.yaml", []),
    "fsdp2": ("fsdp2.yaml", []),
}
DDP = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "MULTI_CPU",
    "num_machines": 1,
    "machine_rank": 0,
    "main_training_function": "main",
}


@pytest.fixture(scope="module")
def questions_file(media, questions, tmp_path_factory) -> Path:
    """The questions, and one on a file that is not a video."""
    broken = questions[0].model_copy(update={"id": "broken", "path": "broken.mp4"})
    many = [
        Question(id=f"many{n}", problem=f"What is {n}?", problem_type="numerical", answer="2",
                 path="broken.mp4" if n % 40 == 7 else "short.mp4" if n % 10 == 3 else "")
        for n in range(100)
    ]  # fmt: skip
    file = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    file.write_text("".join(q.model_dump_json() + "\n" for q in [*questions, broken, *many]))
    return file


def job(name, folder, model_folder, media, questions_file, workers, **changes) -> Job:
    settings = [*SETTINGS, *SETUPS[name][1], f"sft.batch_size={4 // workers}"]
    told = {
        "model": str(model_folder),
        "media": str(media),
        "questions": str(questions_file),
        "out": str(folder),
        "settings": settings,
        "sft": ["long", "text", "still", "broken", "short", "twin", "text", "still"],
        "rl": ["long", "broken", "still", "text"],
    }
    return Job(**told | changes)


def launch(name: str, told: Job) -> subprocess.CompletedProcess:
    """Run a job with two workers on the CPU under `accelerate launch`."""
    folder = Path(told.out)
    folder.mkdir(parents=True, exist_ok=True)
    shipped = SETUPS[name][0]
    config = yaml.safe_load((ROOT / "configs" / shipped).read_text()) if shipped else DDP
    config |= {"use_cpu": True, "mixed_precision": "no", "num_processes": 2}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "job.json").write_text(json.dumps(vars(told)))
    script = ROOT / "tests" / "helpers" / "train_distributed.py"
    command = ["-m", "accelerate.commands.launch", "--config_file", folder / "config.yaml"]
    with (folder / "log.txt").open("a") as log:
        return subprocess.run(
            [sys.executable, *map(str, command), str(script), str(folder / "job.json")],
            env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            stdout=log, stderr=subprocess.STDOUT, timeout=600,
        )  # fmt: skip


@pytest.fixture(scope="module")
def trained(model_folder, media, questions_file, tmp_path_factory):
    """Return the out folder of a set-up (or of one worker: "one", "one lora"), trained once."""
    folder, found = tmp_path_factory.mktemp("distributed"), {}

    def train(name: str) -> Path:
        if name not in found:
            found[name] = folder / name
            paths = (model_folder, media, questions_file)
            if name.startswith("one"):
                setup = "lora" if "lora" in name else "ddp"
                told = job(setup, found[name], *paths, 1)
                found[name].mkdir()
                (found[name] / "job.json").write_text(json.dumps(vars(told)))
                script = ROOT / "tests" / "helpers" / "train_distributed.py"
                done = subprocess.run(
                    [sys.executable, script, found[name] / "job.json"],
                    capture_output=True, text=True, timeout=600,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr[-3000:]
                return found[name]
            done = launch(name, job(name, found[name], *paths, 2))
            assert done.returncode == 0, (found[name] / "log.txt").read_text()[-6000:]
        return found[name]

    return train


@pytest.fixture(params=[*SETUPS])
def setup(request):
    if SETUPS[request.param][0] in ("zero2.yaml", "zero3.yaml") and not find_spec("deepspeed"):
        pytest.skip("DeepSpeed is not installed")
    return request.param


def test_the_policy_is_the_reference_before_the_first_update(setup, trained):
    first = read_lines(trained(setup) / "rl" / "metrics.jsonl")[0]
    assert first["step"] == 1 and first["kl"] <= 1e-3


def test_losses_equal_those_of_one_worker(setup, trained):
    one = trained("one lora" if setup == "lora" else "one")
    for stage in ("sft", "rl"):
        rows = zip(read_lines(one / stage / "metrics.jsonl"),
                   read_lines(trained(setup) / stage / "metrics.jsonl"), strict=True)  # fmt: skip
        for mine, theirs in rows:
            assert theirs["step"] == mine["step"]
            assert theirs["loss"] == pytest.approx(mine["loss"], abs=1e-4), (stage, mine["step"])
