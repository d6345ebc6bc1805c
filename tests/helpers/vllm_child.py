"""What the vLLM tests run in a process of its own: vLLM in a process changes it for good.

python vllm_child.py FOLDER: reads FOLDER/task.pickle, writes FOLDER/found.pickle
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from p2r.errors import EngineError


def main(folder: Path) -> None:
    task = pickle.loads((folder / "task.pickle").read_bytes())
    found: dict[str, Any] = {"offline": offline(**task["offline"])}
    found["qwen3"] = qwen3(**task["qwen3"])
    found["rollouts"] = rollouts(**task["rollouts"])
    found["training"] = training(**task["training"])
    adapters = task["training"] | {"out": folder / "adapters"}
    found["adapters"] = training(**adapters, settings=["tuning.lora_rank=4"])
    (folder / "found.pickle").write_bytes(pickle.dumps(found))


def qwen3(model: str, requests: list, greedy: Any) -> list:
    """The completions of a model of the other family."""
    from p2r.engines import load_engine
    from p2r.runs.recipe import load_recipe

    engine = load_engine(load_recipe("tiny1"), model, engine="vllm")
    found = list(engine.generate(requests, greedy))
    engine.close()
    return found


def offline(model: str, requests: list, long: list, greedy: Any, drawn: Any) -> dict[str, Any]:
    """The engine's completions, in several ways."""
    from p2r.engines import load_engine
    from p2r.runs.recipe import load_recipe

    engine = load_engine(load_recipe("tiny1"), model, engine="vllm")
    found = {
        # More that fail than are drawn at a time, before those that do not.
        "greedy": list(engine.generate(iter([*long, *requests]), greedy)),
        "drawn": list(engine.generate(requests, drawn)),
        "drawn backwards": list(engine.generate(requests[::-1], drawn)),
        "stream": "".join(engine.stream(requests[0], greedy)),
        "identity": engine.identity,
    }
    left = engine.generate(requests, greedy)
    next(left)
    left.close()
    found["after leaving"] = list(engine.generate(requests, greedy))
    # Even where the model wants nothing else: its head prefers vision tokens.
    ids = engine.tokenizer.convert_tokens_to_ids(["<|video_pad|>", "<|vision_end|>"])

    def prefer_vision(model: Any) -> None:
        compute = model.compute_logits

        def compute_and_prefer(*inputs: Any, **more: Any) -> torch.Tensor:
            logits = compute(*inputs, **more)
            logits[..., ids] += 1e4
            return logits

        model.compute_logits = compute_and_prefer

    engine.llm.apply_model(prefer_vision)
    found["banned"] = list(engine.generate(requests, drawn))
    engine.close()
    return found


def rollouts(model: str, media: Path, questions: list, out: Path) -> dict[str, Any]:
    """Completions and log-probs of rollouts before and after a change of weights."""
    from small_rl import make_trainer

    from p2r import data
    from p2r.runs.recipe import load_recipe
    from p2r.training.step import Step, encode
    from p2r.training.trainer import ProcessAwareGRPOTrainer
    from p2r.training.vllm_rollouts import attach_vllm

    trainer, _ = make_trainer(ProcessAwareGRPOTrainer, model, media, questions, out / "trainer")
    settings = ["rl.rollouts=vllm", "rl.temperature=0", "rl.max_tokens=24"]
    attach_vllm(trainer, load_recipe("tiny1", settings))
    trainer.model.train()
    trainer.step = Step(questions, group_size=1)
    encode(trainer.step, trainer.processing_class, trainer.frames_of, trainer.style)
    prompts = [prompt.ids for prompt in trainer.step.prompts]
    vllm = trainer.vllm_generation
    engine = vllm.sampler.engine.llm.llm_engine

    def sample() -> tuple[list, list]:
        _, ids, logprobs, _ = vllm.generate(prompts, None, 1)
        return ids, logprobs

    def change(seed: int) -> None:
        noise = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weights in trainer.model.parameters():
                spread = weights.std() if weights.numel() > 1 else 1.0
                weights += 0.5 * spread * torch.randn(weights.shape, generator=noise)

    def save(name: str) -> str:
        trainer.model.save_pretrained(out / name)
        data.load_processor(model).save_pretrained(out / name)
        return str(out / name)

    vllm.sync_weights()
    found = {"before": sample()}
    change(0)
    vllm.sync_weights()
    found["after 0"], found["model 0"] = sample(), save("after-0")
    # Resets left out, one and then the other.
    change(1)
    vllm.sampler.load(vllm._iter_named_params)
    engine.reset_encoder_cache()
    found["prefix cache kept"] = sample()
    vllm.sampler.reset_caches()
    found["after 1"], found["model 1"] = sample(), save("after-1")
    change(2)
    vllm.sampler.load(vllm._iter_named_params)
    engine.reset_prefix_cache()
    try:
        found["encoder cache kept"] = sample()
    except EngineError as error:
        found["encoder cache kept"] = str(error)
    vllm.sampler.reset_caches()
    found["shuffled"] = second_group(trainer, questions)
    found["nccl"] = transfer(trainer, model)
    vllm.close()
    return found


def transfer(trainer: Any, model: str) -> dict[str, Any]:
    """Two transfers of the weights by vLLM's own sender, and the calls to the server.

    NCCL needs GPUs on both sides, so the group and the broadcast are replaced.
    """
    from vllm.distributed.weight_transfer import nccl_engine

    from p2r.runs.recipe import load_recipe
    from p2r.training.vllm_samplers import OverNccl, make_sampler

    calls, sent = [], []

    def answer(path: str, data: bytes | None = None) -> bytes:
        calls.append((path, json.loads(data or b"null")))
        replies = {
            "server_info": {"vllm_config": {"weight_transfer_config": {"backend": "nccl"}}},
            "get_world_size": {"world_size": 4},
        }
        return json.dumps(replies.get(path.partition("?")[0])).encode()

    settings = ["rl.rollouts=vllm-server", "vllm.weights=nccl", "models.dtype=bfloat16"]
    sampler = make_sampler(load_recipe("tiny1", settings), model, trainer)
    assert isinstance(sampler, OverNccl)
    with (
        mock.patch.object(sampler, "_call", answer),
        mock.patch.object(nccl_engine, "open_trainer_endpoint", lambda info: info),
        mock.patch.object(
            nccl_engine,
            "packed_nccl_broadcast_producer",
            lambda iterator, group, **_: sent.append((group.world_size, list(iterator))),
        ),
    ):
        for _ in range(2):
            sampler.load(trainer.vllm_generation._iter_named_params)
    groups, streams = zip(*sent, strict=True)
    weights = [
        (name, tensor.detach().bfloat16()) for name, tensor in trainer.model.named_parameters()
    ]
    same = [
        [name for name, _ in stream] == [name for name, _ in weights]
        and all(torch.equal(a, b) for (_, a), (_, b) in zip(stream, weights, strict=True))
        for stream in streams
    ]
    shapes = [list(tensor.shape) for _, tensor in weights]
    read = []
    for failing in ("start_weight_update", "update_weights", "finish_weight_update"):
        read.append(read_with_failing(sampler, trainer, failing))
    return {"calls": calls, "groups": groups, "same": same, "shapes": shapes, "read": read}


def read_with_failing(sampler: Any, trainer: Any, failing: str) -> int:
    """How many weights are read if the server answers one call with an error."""
    from vllm.distributed.weight_transfer import nccl_engine

    names = []

    def read() -> Any:
        for name, tensor in trainer.vllm_generation._iter_named_params():
            names.append(name)
            yield name, tensor

    def answer(path: str, data: bytes | None = None) -> bytes:
        if path == failing:
            raise EngineError("no server")
        return b"{}"

    sampler.sender = None
    with (
        mock.patch.object(sampler, "_check_server", lambda: 4),
        mock.patch.object(sampler, "_call", answer),
        mock.patch.object(nccl_engine, "open_trainer_endpoint", lambda info: info),
        mock.patch.object(
            nccl_engine, "packed_nccl_broadcast_producer", lambda iterator, *_, **__: next(iterator)
        ),
    ):
        try:
            sampler.load(read)
        except EngineError:
            return len(names)
    raise AssertionError("no error")


def second_group(trainer: Any, questions: list) -> list[float]:
    """The accuracies of the shuffled partners of two rollouts of each question (T-GRPO)."""
    from p2r.training.step import Step

    trainer.settings = trainer.settings.model_copy(update={"credit": "temporal"})
    trainer.step = Step([q for q in questions for _ in range(2)], group_size=2)
    trainer.roll_out([], trainer)
    trainer.judge.answer()
    return trainer._shuffled


def training(
    model: str, media: Path, questions: list, out: Path, settings: Sequence[str] = ()
) -> list[dict[str, float]]:
    """The metrics of a training with vLLM's rollouts, whose steps change the weights a lot."""
    from small import read_lines, small_recipe
    from small_rl import RuleJudge

    from p2r.training.grpo import train_grpo

    recipe = small_recipe(
        Path(model),
        "rl.rollouts=vllm",
        "rl.steps=2",
        f"rl.prompts_per_step={len(questions)}",
        "rl.group_size=8",
        "rl.micro_batch=8",
        "rl.max_tokens=60",
        "rl.top_p=1.0",
        "rl.preflight=0",
        "rl.learning_rate=1e-2",
        "rl.scheduler=constant",
        *settings,
    )
    train_grpo(recipe, questions, model, out, judge=RuleJudge(), data_root=media)
    return read_lines(out / "metrics.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
