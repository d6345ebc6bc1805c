"""The accelerate configs: read by accelerate's own class, and right for the model they wrap.

DeepSpeed itself is not needed: what is tested is what accelerate would hand to it.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import (
    DeepSpeedPlugin,
    DistributedType,
    FullyShardedDataParallelPlugin,
)
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from p2r import data
from p2r.runs.recipe import load_recipe
from p2r.training.dry_run import dry_run
from p2r.training.memory import fits
from p2r.training.plan import plan_rl

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.slow
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def launched(monkeypatch, name: str):
    """Return the arguments and the environment that `accelerate launch` makes from a config."""
    command = ["--config_file", str(CONFIGS / name), "-m", "p2r", "rl"]
    arguments, config, _ = _validate_launch_command(launch_command_parser().parse_args(command))
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ",".join(config.deepspeed_config)
        _, environment = prepare_deepspeed_cmd_env(arguments)
    else:
        environment = prepare_multi_gpu_env(arguments)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    return arguments


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("zero2.yaml", DistributedType.DEEPSPEED),
        ("zero3.yaml", DistributedType.DEEPSPEED),
        ("zero3_offload.yaml", DistributedType.DEEPSPEED),
        ("fsdp2.yaml", DistributedType.FSDP),
    ],
)
def test_accelerate_reads_it(name, kind):
    config = load_config_from_file(str(CONFIGS / name))
    assert config.distributed_type == kind
    assert (config.mixed_precision, config.num_processes, config.use_cpu) == ("bf16", 8, False)


def test_there_is_a_test_for_every_config():
    assert sorted(path.name for path in CONFIGS.iterdir()) == [
        "fsdp2.yaml",
        "slurm.sh",
        "zero2.yaml",
        "zero3.yaml",
        "zero3_offload.yaml",
    ]


def test_zero3_offload_keeps_weights_and_optimiser_in_main_memory(monkeypatch):
    launched(monkeypatch, "zero3_offload.yaml")
    zero = DeepSpeedPlugin().deepspeed_config["zero_optimization"]
    assert zero["offload_optimizer"]["device"] == zero["offload_param"]["device"] == "cpu"


def test_the_slurm_script_is_valid_and_its_commands_exist():
    script = CONFIGS / "slurm.sh"
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    text = script.read_text()
    for verb in ("p2r generate", "p2r filter", "launch sft", "launch rl"):
        assert verb in text
    assert set(re.findall(r"configs/\w+\.yaml", text)) == {"configs/zero3.yaml"}


def test_zero3_shards_and_saves_whole_weights(monkeypatch):
    arguments = launched(monkeypatch, "zero3.yaml")
    assert arguments.module and arguments.training_script == "p2r"
    assert os.environ["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert os.environ["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "3"
    plugin = DeepSpeedPlugin()
    assert plugin.zero_stage == 3 and plugin.zero3_init_flag and plugin.zero3_save_16bit_model
    zero = plugin.deepspeed_config["zero_optimization"]
    assert zero["stage3_gather_16bit_weights_on_model_save"] is True
    assert zero["offload_optimizer"]["device"] == zero["offload_param"]["device"] == "none"


def test_zero2_keeps_all_weights_on_each_gpu(monkeypatch):
    launched(monkeypatch, "zero2.yaml")
    plugin = DeepSpeedPlugin()
    assert plugin.zero_stage == 2 and plugin.zero3_init_flag is False


@pytest.mark.parametrize(
    ("folder", "layers"),
    [
        ("model_folder", {"Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock"}),
        ("qwen3_folder", {"Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock"}),
    ],
)
def test_fsdp2_wraps_the_layers_of_both_towers_and_saves_whole_weights(
    folder, layers, request, monkeypatch
):
    launched(monkeypatch, "fsdp2.yaml")
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    model = data.load_model(request.getfixturevalue(folder))
    plugin.set_auto_wrap_policy(model)
    wrapped = {
        type(module).__name__
        for module in model.modules()
        if plugin.auto_wrap_policy(module, False, 0)
    }
    assert wrapped == layers


@pytest.mark.parametrize(("name", "sharding"), [("zero3.yaml", "zero3"), ("fsdp2.yaml", "fsdp2")])
def test_a_dry_run_knows_how_it_was_launched(name, sharding, monkeypatch):
    processes = launched(monkeypatch, name).num_processes
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    plan, _ = dry_run(load_recipe("7b-8x80gb"))
    assert (plan.load.sharding, plan.load.gpus) == (sharding, 8)
    assert fits(plan.memory, 80, plan.recipe.vllm.rollout_memory)


def test_a_dry_run_knows_zero2(monkeypatch):
    """Weights and reference are whole on each GPU; gradients and optimiser are shared."""
    monkeypatch.setenv("WORLD_SIZE", str(launched(monkeypatch, "zero2.yaml").num_processes))
    plan, _ = dry_run(load_recipe("7b-8x80gb"))
    assert (plan.load.sharding, plan.load.gpus) == ("zero2", 8)
    whole = plan_rl(load_recipe("7b-8x80gb"), gpus=8, sharding="zero3").memory
    assert plan.memory["weights"] == pytest.approx(8 * whole["weights"], rel=1e-6)
    assert plan.memory["reference"] == pytest.approx(8 * whole["reference"], rel=1e-6)
    assert plan.memory["optimiser"] == whole["optimiser"]
