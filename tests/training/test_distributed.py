"""Two workers on the CPU train like one, in every set-up: DDP, LoRA, ZeRO-2, ZeRO-3, FSDP2.

Each config is one start of the real `accelerate launch` with two workers over gloo, with the
shipped config where there is one. A start takes long, so one start does several trainings. A set-up
trains SFT, then RL, on the tiny model. The data have a clip that cannot be read, an image and a
text-only question. ZeRO-3 trains with gradient checkpointing. RL with LoRA is T-GRPO with masked
frames (PAPO), RL of all weights is PA-GRPO.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import forks
import pytest
import torch
import yaml
from small import read_lines
from test_dynamic_sampling import POOL, asked_in, both
from test_dynamic_sampling import train as train_by_question
from test_overlap import train as train_ahead
from torch.testing import assert_close
from train_distributed import launch_in_forks, run_job
from train_steps import GROUP, PROMPTS, STEPS, VARIANTS, train_steps

from p2r import data
from p2r.records import Case, Question
from p2r.training.stage import PATIENCE

pytest_plugins = ["small_fixtures"]
pytestmark = [pytest.mark.slow, pytest.mark.distributed, pytest.mark.timeout(1200)]

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
CONFIGS = {"ddp": None, "zero2": "zero2.yaml", "zero3": "zero3.yaml", "fsdp2": "fsdp2.yaml"}
LORA = ["tuning.lora_rank=4", "rl.credit=temporal", "rl.micro_batch=6", "rl.perception_loss=0.02"]
SETUPS = ["ddp", "ddp lora", "zero2", "zero3", "zero3 lora", "fsdp2"]
EXTRA = {  # what the start of a config does besides
    "one": {"adapters": LORA},
    "ddp": {"adapters": LORA, "break_rank": 1},
    "zero3": {
        "many": [f"many{n}" for n in range(100)],
        "recompute": True,
        "kill_at": 2,
        "adapters": LORA,
    },
    "fsdp2": {"kill_at": 2},
}
# Names of questions ("!": cannot be read) and settings of dynamic sampling.
DRAWN = [[*POOL, "b!", "p!"], "rl.dynamic_sampling=any", "rl.dynamic_rounds=2"]
# One worker pads its examples. These pack them, into one to two passes.
BUDGET = {"ddp": ["sft.token_budget=250"], "zero3": ["sft.token_budget=250"]}
SHARED_GROUP = ["rl.steps=1", "rl.prompts_per_step=1", "rl.micro_batch=4", "rl.preflight=1"]
# DeepSpeed on the CPU. When it is imported, it prepares torch's compiler: seconds for nothing here.
DEEPSPEED = {"DS_ACCELERATOR": "cpu", "TORCHDYNAMO_DISABLE": "1"}
FRESH = ("ddp", "zero3")  # configs whose last start has new interpreters
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


def job(name: str, out: Path, paths: list[str], workers: int) -> dict:
    """Return the `train_distributed.Job` of a config, or of one worker."""
    return {
        **dict(zip(("model", "media", "questions"), paths, strict=True)),
        "out": str(out),
        "settings": [*SETTINGS, f"sft.batch_size={4 // workers}", *BUDGET.get(name, [])],
        "sft": ["long", "text", "still", "broken", "short", "twin", "text", "still"],
        "rl": ["long", "broken", "still", "text"],
        **EXTRA.get(name, {}),
    }


def launch(name: str, out: Path, calls: list, fresh: bool = False) -> int:
    """Make calls with two workers on the CPU under `accelerate launch`. Return the exit code.

    A call is [module, function, arguments]. The output goes to `log.txt` in the out folder. `fresh`
    starts new interpreters, as a user does. Forks, which have the libraries, save 13 s per worker.
    """
    shipped = CONFIGS[name]
    config = yaml.safe_load((ROOT / "configs" / shipped).read_text()) if shipped else DDP
    config |= {"use_cpu": bool(shipped), "mixed_precision": "no", "num_processes": 2}
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    (out / "calls.json").write_text(json.dumps(calls))
    script = ROOT / "tests" / "helpers" / "train_distributed.py"
    arguments = ["--config_file", str(out / "config.yaml"), str(script), str(out / "calls.json")]
    environment = {"OMP_NUM_THREADS": "1", **(DEEPSPEED if "zero" in name else {})}
    if not fresh:
        launcher = forks.start(
            launch_in_forks, arguments, log=out / "log.txt", environment=environment
        )
        launcher.join(900)
        ended = launcher.exitcode
        launcher.kill()
        assert ended is not None, "the workers do not end"
        return ended
    with (out / "log.txt").open("a") as log:
        return subprocess.run(
            [sys.executable, "-m", "accelerate.commands.launch", *arguments],
            env={**os.environ, **environment},
            stdout=log, stderr=subprocess.STDOUT, timeout=900,
        ).returncode  # fmt: skip


@pytest.fixture(scope="module")
def trained(model_folder, taught_folder, media, questions_file, tmp_path_factory):
    """Return the out folder of a set-up (or of one worker: "one", "one lora"), trained once."""
    folder, found = tmp_path_factory.mktemp("distributed"), set()
    paths = [str(path) for path in (model_folder, media, questions_file)]

    def train(name: str) -> Path:
        if name.endswith(" lora"):  # in the start of its config
            return train(name.removesuffix(" lora")) / "lora"
        out = folder / name
        if name in found:
            return out
        found.add(name)
        out.mkdir()
        steps = [str(out / "steps"), *paths]
        if name == "one":
            run_job(job(name, out, paths, 1))
            train_steps(*steps)
            return out
        what = job(name, out, paths, 2)
        calls = [["train_distributed", "run_job", [what]]]
        if name == "ddp":
            shared = [str(out / "shared group"), str(taught_folder), str(media), *SHARED_GROUP]
            drawn = [str(out / "drawn"), str(model_folder), str(media), *DRAWN]
            calls += [["train_steps", "train_steps", steps], ["test_grpo", "train", shared]]
            calls.append(["test_dynamic_sampling", "train", drawn])
            calls.append(["test_overlap", "train", [str(out / "ahead"), *paths[:2]]])
        if "kill_at" in what:
            assert launch(name, out, calls) != 0
            assert not (out / "done.json").exists() and (out / "rl" / "checkpoints").is_dir()
            del what["kill_at"]
        code = launch(name, out, calls, fresh=name in FRESH)
        assert code == 0, (out / "log.txt").read_text()[-6000:]
        return out

    return train


def done(folder: Path) -> dict:
    return json.loads((folder / "done.json").read_text())


def config_of(setup: str) -> str:
    """Return the config whose start trained a set-up."""
    return setup.split()[0]


def single(setup: str) -> str:
    """Return the name of the training on one worker that a set-up must equal."""
    return "one lora" if "lora" in setup else "one"


def log_of(setup: str, trained) -> str:
    """Return the output of the workers that trained a set-up."""
    return (trained(config_of(setup)) / "log.txt").read_text()


@pytest.fixture(params=SETUPS)
def setup(request):
    if request.param.startswith("zero") and not find_spec("deepspeed"):
        pytest.skip("DeepSpeed is not installed")
    return request.param


def test_two_workers_train_in_the_asked_way(setup, trained):
    """accelerate falls back to one worker or to DDP without an error if it cannot do otherwise."""
    config = config_of(setup)
    kind = {"zero2": "DEEPSPEED", "zero3": "DEEPSPEED", "fsdp2": "FSDP"}.get(config, "MULTI_CPU")
    found = done(trained(config))
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
    log = log_of(setup, trained)
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
    assert "Signal 9 (SIGKILL)" in log_of(setup, trained)


@pytest.mark.parametrize("setup", ["ddp lora", "zero3 lora"], indirect=True)
def test_the_second_group_of_t_grpo_is_that_of_one_worker(setup, trained):
    """Half of the rollouts of each video have a shuffled partner, on any number of workers."""
    keys = ("temporal/reward", "temporal/shuffled_accuracy", "reward")
    one, two = (
        [[row[key] for key in keys] for row in read_lines(trained(name) / "rl" / "metrics.jsonl")]
        for name in (single(setup), setup)
    )
    assert_close(torch.tensor(two), torch.tensor(one), atol=1e-6, rtol=0)
    assert min(row[0] for row in one) > 0, "right answers earned the temporal reward"


def test_a_wrong_reference_stops_the_run_and_is_named(trained):
    said = done(trained("ddp"))["error"]
    assert "log-probs of policy and reference differ" in said
    assert "model.language_model.layers.0.mlp.up_proj.weight differs by up to 1" in said
    assert "rank 0: 0, rank 1: " in said
    assert not (trained("ddp") / "broken" / "metrics.jsonl").exists(), "no update was made"


def test_workers_wait_for_each_other_for_hours(trained):
    """A judge may keep one worker busy longer than the 10 minutes that NCCL waits by default."""
    assert done(trained("ddp"))["timeout"] == PATIENCE.total_seconds() >= 6 * 3600


# ---- groups of rollouts that cross the border between two workers


@pytest.mark.parametrize("variant", VARIANTS)
def test_groups_advantages_and_losses_equal_those_of_one_worker(variant, trained):
    """Groups of 4 in micro-batches of 3 cross the borders of micro-batches and workers."""
    one, two = (torch.load(trained(name) / "steps" / f"{variant}.pt") for name in ("one", "ddp"))
    assert len(one["cases"]) == len(two["cases"]) == STEPS * PROMPTS * GROUP
    advantages = defaultdict(list)
    for mine, theirs in zip(one["cases"], two["cases"], strict=True):
        for trace in (mine["trace"], theirs["trace"]):
            trace["model"] = ""
        for process in ("perception_advantage", "reasoning_advantage"):
            both = mine.pop(process), theirs.pop(process)
            assert both[1] == pytest.approx(both[0], abs=1e-4 if "critic" in variant else 0)
            advantages[process].append(both[0])
        assert json.dumps(mine) == json.dumps(theirs)
    assert advantages["perception_advantage"] != advantages["reasoning_advantage"]
    # Times are not compared. Means over the tokens of a micro-batch depend on the micro-batches.
    # The losses of later steps show that the weights agree. Weights with almost no gradient may
    # differ, because Adam turns rounding errors into full steps.
    by_cut = ("entropy", "kl", "clip_ratio", "masked_")
    names = [
        name
        for name in one["metrics"][0]
        if not name.startswith(("time/", "step_time", "train_", "epoch", *by_cut))
    ]
    assert {"perception/kl", "reasoning/entropy"} <= {*names}
    assert {"loss", "grad_norm", "judge/calls", "reasoning/collapse"} <= {*names}
    if "critic" in variant:
        assert {"critic/loss", "critic/explained", "perception/masked_kl"} <= {*names}
    assert len(one["metrics"]) == STEPS
    for mine, theirs in zip(one["metrics"], two["metrics"], strict=True):
        for name in names:
            if mine[name] is None or theirs[name] is None:  # unknown
                assert mine[name] is theirs[name], name
                continue
            assert theirs[name] == pytest.approx(mine[name], rel=1e-4, abs=1e-6), name
    assert abs(one["metrics"][-1]["loss"]) > 1e-4 and one["metrics"][-1]["kl"] > 1e-4


def test_two_workers_draw_the_same_questions_as_one(trained, model_folder, media, tmp_path):
    """For unreadable videos and collapsed groups. A group of two is on both workers."""
    train_by_question(tmp_path / "one", model_folder, media, *DRAWN)
    (tmp_path / "two").symlink_to(trained("ddp") / "drawn")
    assert asked_in(tmp_path / "one") == asked_in(tmp_path / "two")
    for one, two in both(tmp_path, "one", "two"):
        for key in one:
            if key.startswith(("dynamic", "reward", "judge/calls", "loss", "grad_norm")):
                assert two[key] == pytest.approx(one[key], abs=1e-5), key


def test_two_workers_sample_one_step_ahead(trained, model_folder, media, tmp_path):
    """Their trainings are the same as that of one worker."""
    train_ahead(str(tmp_path / "one"), str(model_folder), str(media))
    (tmp_path / "two").symlink_to(trained("ddp") / "ahead")
    for one, two in both(tmp_path, "one", "two"):
        for key in ("loss", "grad_norm", "reward", "kl", "sampling/importance_sampling_ratio/mean"):
            assert two[key] == pytest.approx(one[key], rel=1e-3, abs=1e-5), (one["step"], key)


def test_two_workers_may_share_a_group(trained):
    log = log_of("ddp", trained)
    assert "1 prompts × 8 rollouts = 8 rollouts, 1 update(s) (1 micro-batches of 4 on 2" in log
    assert log.count("preflight: 8 rollouts of the start model (1 questions") == 1
    cases = [
        Case.model_validate(row)
        for row in read_lines(trained("ddp") / "shared group" / "rollouts.jsonl")
    ]
    assert [case.trace.rollout for case in cases] == list(range(8))
    rewards = torch.tensor([case.perception.total for case in cases])
    assert_close(
        torch.tensor([case.perception_advantage for case in cases]),
        (rewards - rewards.mean()) / (rewards.std() + 1e-4),
    )
