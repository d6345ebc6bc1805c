"""Two workers on the CPU train like one, in every set-up: DDP, LoRA, ZeRO-2, ZeRO-3, FSDP2.

Each set-up is one start of the real `accelerate launch` with two workers over gloo, with the
shipped config where there is one. It trains SFT, then RL, on the tiny model. The data have a clip
that cannot be read, an image and a text-only question. ZeRO-3 trains with gradient checkpointing,
and a second time with LoRA. RL with LoRA is T-GRPO, RL of all weights is PA-GRPO.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from small import read_lines
from train_distributed import Job

from p2r import data
from p2r.records import Question
from p2r.training.stage import PATIENCE

pytest_plugins = ["small_fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.distributed, pytest.mark.timeout(900)]

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
LORA = ["tuning.lora_rank=4", "rl.credit=temporal"]
SETUPS = {  # name → (shipped config or None for DDP, further settings)
    "ddp": (None, []),
    "lora": (None, LORA),
    "zero2": ("zero2.yaml", []),
    "zero3": ("zero3.yaml", []),
    "zero3 lora": ("zero3.yaml", LORA),  # in the start of zero3
    "fsdp2": ("fsdp2.yaml", []),
}
EXTRA = {  # what a set-up does besides
    "ddp": {"break_rank": 1},
    "zero3": {
        "many": [f"many{n}" for n in range(100)],
        "recompute": True,
        "kill_at": 2,
        "adapters": LORA,
    },
    "fsdp2": {"kill_at": 2},
}
DDP = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "MULTI_GPU",  # with MULTI_CPU accelerate starts one worker, without MPI
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


def start(told: Job, command: list[str]) -> subprocess.CompletedProcess:
    """Run a job with a command; its output goes to `log.txt` in the out folder."""
    folder = Path(told.out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(vars(told)))
    script = ROOT / "tests" / "helpers" / "train_distributed.py"
    with (folder / "log.txt").open("a") as log:
        return subprocess.run(
            [*command, str(script), str(folder / "job.json")],
            env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            stdout=log, stderr=subprocess.STDOUT, timeout=600,
        )  # fmt: skip


def remove_stale_lock() -> None:
    """A killed start of DeepSpeed leaves a lock that every later start would wait for."""
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR", Path.home() / ".cache/torch_extensions"))
    for lock in root.glob("**/deepspeed_shm_comm/lock"):
        if time.time() - lock.stat().st_mtime > 600:
            lock.unlink(missing_ok=True)


def launch(name: str, told: Job) -> subprocess.CompletedProcess:
    """Run a job with two workers on the CPU under `accelerate launch`."""
    shipped = SETUPS[name][0]
    config = yaml.safe_load((ROOT / "configs" / shipped).read_text()) if shipped else DDP
    config |= {"use_cpu": bool(shipped), "mixed_precision": "no", "num_processes": 2}
    file = Path(told.out) / "config.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(config))
    remove_stale_lock()
    module = ["-m", "accelerate.commands.launch", "--config_file", str(file)]
    return start(told, [sys.executable, *module])


@pytest.fixture(scope="module")
def trained(model_folder, media, questions_file, tmp_path_factory):
    """Return the out folder of a set-up (or of one worker: "one", "one lora"), trained once."""
    folder, found = tmp_path_factory.mktemp("distributed"), {}
    paths = (model_folder, media, questions_file)

    def train(name: str) -> Path:
        if name in found:
            return found[name]
        if name == "zero3 lora":
            return train("zero3") / "lora"
        out = found[name] = folder / name
        if name.startswith("one"):
            told = job("lora" if "lora" in name else "ddp", out, *paths, 1)
            done = start(told, [sys.executable])
        else:
            told = job(name, out, *paths, 2, **EXTRA.get(name, {}))
            if told.kill_at:
                assert launch(name, told).returncode != 0
                assert not (out / "done.json").exists() and (out / "rl" / "checkpoints").is_dir()
                told.kill_at = 0
            done = launch(name, told)
        assert done.returncode == 0, (out / "log.txt").read_text()[-6000:]
        return out

    return train


def done(folder: Path) -> dict:
    return json.loads((folder / "done.json").read_text())


def start_of(setup: str) -> str:
    """Return the set-up whose start trained this one."""
    return setup.split()[0]


def single(setup: str) -> str:
    """Return the name of the training on one worker that a set-up must equal."""
    return "one lora" if "lora" in setup else "one"


@pytest.fixture(params=[*SETUPS])
def setup(request):
    if (SETUPS[request.param][0] or "").startswith("zero") and not find_spec("deepspeed"):
        pytest.skip("DeepSpeed is not installed")
    return request.param


def test_two_workers_train_in_the_asked_way(setup, trained):
    """accelerate falls back to one worker or to DDP without an error if it cannot do otherwise."""
    setup = start_of(setup)
    kind = {"zero2": "DEEPSPEED", "zero3": "DEEPSPEED", "fsdp2": "FSDP"}.get(setup, "MULTI_CPU")
    found = done(trained(setup))
    assert found["workers"] == 2 and found["kind"].endswith(kind)


def test_the_policy_is_the_reference_before_the_first_update(setup, trained):
    assert json.loads((trained(setup) / "rl" / "preflight.json").read_text())["passed"]
    first = read_lines(trained(setup) / "rl" / "metrics.jsonl")[0]
    assert first["step"] == 1 and first["kl"] <= 1e-3


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_losses_equal_those_of_one_worker(setup, stage, trained):
    one = read_lines(trained(single(setup)) / stage / "metrics.jsonl")
    two = read_lines(trained(setup) / stage / "metrics.jsonl")
    assert [row["step"] for row in two] == [row["step"] for row in one] == [1, 2, 3]
    for mine, theirs in zip(one, two, strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], abs=1e-4), mine["step"]


@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_the_final_model_loads_and_is_that_of_one_worker(setup, stage, trained, model_folder):
    """AdamW turns rounding errors of almost zero gradients into full updates, so a few weights
    differ by an update; all together the updates are the same.
    """
    before = data.load_model(model_folder if stage == "sft" else trained(setup) / "sft" / "model")
    one = data.load_model(trained(single(setup)) / stage / "model").state_dict()
    two = data.load_model(trained(setup) / stage / "model").state_dict()
    names = [name for name, old in before.state_dict().items() if old.is_floating_point()]
    assert {*one} == {*two} and names
    moved = torch.cat([(one[n] - before.state_dict()[n]).flatten() for n in names])
    apart = torch.cat([(one[n] - two[n]).flatten() for n in names])
    assert moved.norm() > 0 and apart.norm() < 0.005 * moved.norm()


def test_unreadable_clips_are_named(setup, trained):
    for stage in ("sft", "rl"):
        (row,) = read_lines(trained(setup) / stage / "skipped.jsonl")
        assert row["id"] == "broken" and "broken.mp4" in row["reason"]
    log = (trained(start_of(setup)) / "log.txt").read_text()
    assert "SFT example 'broken' is skipped; example 'short' takes its place" in log


def test_three_of_100_clips_cannot_be_read_on_two_zero3_workers(trained):
    pytest.importorskip("deepspeed")
    folder = trained("zero3") / "many"
    assert {row["id"] for row in read_lines(folder / "skipped.jsonl")} == {
        "many7",
        "many47",
        "many87",
    }
    assert [row["step"] for row in read_lines(folder / "metrics.jsonl")] == [*range(1, 8)]
    data.load_model(folder / "model")


@pytest.mark.parametrize("setup", ["zero3", "fsdp2"], indirect=True)
def test_a_killed_training_resumes(setup, trained):
    """The other tests compare its losses and its final model with those of one worker."""
    log = (trained(setup) / "log.txt").read_text()
    assert "Signal 9 (SIGKILL)" in log


@pytest.mark.parametrize("setup", ["lora", "zero3 lora"], indirect=True)
def test_the_second_group_of_t_grpo_is_that_of_one_worker(setup, trained):
    """Half of the rollouts of each video have a shuffled partner, on any number of workers."""
    keys = ("temporal/reward", "temporal/shuffled_accuracy", "reward")
    one, two = (
        [[row[key] for key in keys] for row in read_lines(trained(name) / "rl" / "metrics.jsonl")]
        for name in (single(setup), setup)
    )
    assert two == pytest.approx(one, abs=1e-6) and min(row[0] for row in one) > 0


def test_a_wrong_reference_stops_the_run_and_is_named(trained):
    said = done(trained("ddp"))["error"]
    assert "log-probs of policy and reference differ" in said
    assert "model.language_model.layers.0.mlp.up_proj.weight differs by up to 1" in said
    assert "rank 0: 0, rank 1: " in said
    assert not (trained("ddp") / "broken" / "metrics.jsonl").exists(), "no update was made"


def test_workers_wait_for_each_other_for_hours(trained):
    """A judge may keep one worker busy longer than the 10 minutes that NCCL waits by default."""
    assert done(trained("ddp"))["timeout"] == PATIENCE.total_seconds() >= 6 * 3600
