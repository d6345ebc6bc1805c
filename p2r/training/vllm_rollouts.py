"""Rollouts of RL by vLLM, with native video: in this process, or at a server of `p2r serve`.

TRL 1.16 lets vLLM see images only, and resets no encoder cache when the weights change. Here
rollouts come from the same engines that write traces, so that prompts, frames, positions and banned
tokens are theirs, and after every optimiser step they get the new weights and forget all that was
computed with the old ones.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import ensure_master_addr_port

from p2r.engines import Request, Sampling, describe_error
from p2r.engines.server import ServerEngine
from p2r.engines.vllm import VllmEngine
from p2r.errors import EngineError, TrainingError
from p2r.runs.recipe import Recipe

Weights = Iterator[tuple[str, torch.Tensor]]
TIMEOUT = 600.0  # seconds for a server to load new weights


class Sampler(Protocol):
    """An engine that takes new weights."""

    engine: VllmEngine | ServerEngine

    def load(self, weights: Weights) -> None: ...

    def reset_caches(self) -> None: ...


def attach_vllm(trainer: Any, recipe: Recipe) -> None:
    """Let vLLM write a trainer's rollouts, as `recipe.rl.rollouts` says; raises `EngineError`.

    TRL then corrects for what vLLM and the trainer compute differently by truncated importance
    sampling per token: its default would drop whole responses, and with them both processes.
    """
    trainer.vllm_generation = VllmRollouts(trainer, recipe)
    trainer.use_vllm = True
    trainer.vllm_mode = "colocate" if recipe.rl.rollouts == "vllm" else "server"
    trainer.vllm_importance_sampling_mode = "token_truncate"
    trainer._last_loaded_step = -1


class VllmRollouts(VLLMGeneration):
    """What TRL's trainer calls in place of its own vLLM generation.

    The gathering of weights from FSDP, DeepSpeed and adapters is TRL's.
    """

    def __init__(self, trainer: Any, recipe: Recipe) -> None:
        self.trainer, self.recipe = trainer, recipe
        self.model, self.accelerator = trainer.model, trainer.accelerator
        self._dist = DistributedBackend(self.accelerator)
        kind = InProcess if recipe.rl.rollouts == "vllm" else AtServer
        self.sampler: Sampler = kind(recipe, self.model.name_or_path, trainer)

    def sync_weights(self) -> None:
        """Hand the trainer's weights to vLLM; prefix and encoder caches start anew."""
        weights = self._iter_named_params()
        self.sampler.load(weights)
        for _ in weights:  # gathering is collective: every process must take part to the end
            pass
        self.sampler.reset_caches()
        self.accelerator.wait_for_everyone()

    def generate(
        self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any = None
    ) -> tuple[list, list, list, None]:
        """Prompt ids, completion ids and the sampled tokens' log-probs, (rows, tokens, 1), as TRL
        takes them; raises `TrainingError` where a rollout fails.
        """
        trainer, rl = self.trainer, self.recipe.rl
        # A seed by step and row, so that a resumed run samples what the first would have.
        place = f"{trainer.state.global_step}/{self.accelerator.process_index}"
        if not trainer.model.training:
            place = f"eval/{place}"
        requests = [
            Request(f"{place}/{row}", question, frames)
            for row, (question, frames) in enumerate(
                zip(trainer._batch, trainer._frames, strict=True)
            )
        ]
        sampling = Sampling(rl.temperature, rl.top_p, rl.max_tokens, self.recipe.seed)
        found = {c.key: c for c in self.sampler.engine.generate(requests, sampling)}
        completions = [found[request.key] for request in requests]
        for completion, prompt in zip(completions, prompts, strict=True):
            if completion.error is not None:
                raise TrainingError(f"vLLM failed on rollout {completion.key}: {completion.error}")
            if completion.prompt_tokens != len(prompt):
                raise TrainingError(
                    f"vLLM saw a prompt of {completion.prompt_tokens} tokens where the trainer "
                    f"has {len(prompt)}"
                )
        logprobs = [[[value] for value in c.logprobs or ()] for c in completions]
        return prompts, [c.token_ids for c in completions], logprobs, None


class InProcess:
    """vLLM in the trainer's process, on its device."""

    def __init__(self, recipe: Recipe, model: str, trainer: Any) -> None:
        processes = trainer.accelerator.num_processes
        settings: dict[str, Any] = {"gpu_memory_utilization": recipe.vllm.rollout_memory}
        if processes > 1:  # the launcher's processes, one engine each
            settings["distributed_executor_backend"] = "external_launcher"
            os.environ["RANK"] = str(trainer.accelerator.process_index)
            os.environ["LOCAL_RANK"] = str(trainer.accelerator.local_process_index)
            os.environ["WORLD_SIZE"] = str(processes)
            ensure_master_addr_port()
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        self.engine = VllmEngine(recipe, model, style=trainer.style, logprobs=True, **settings)

    def load(self, weights: Weights) -> None:
        # vLLM's own way: also weights that it keeps packed are made anew.
        self.engine.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})

    def reset_caches(self) -> None:
        engine = self.engine.llm.llm_engine
        engine.reset_prefix_cache()
        engine.reset_encoder_cache()


class AtServer:
    """A server that `p2r serve --rollouts` started; it reads new weights from a folder that it and
    the trainer share (TMPDIR says where).
    """

    def __init__(self, recipe: Recipe, model: str, trainer: Any) -> None:
        self.main = trainer.accelerator.is_main_process
        self.dtype = getattr(torch, recipe.models.dtype)
        self.root = recipe.server.base_url.removesuffix("/v1")
        self.engine = ServerEngine(recipe, model, style=trainer.style, logprobs=True)

    def load(self, weights: Weights) -> None:
        if not self.main:
            return
        folder = Path(tempfile.mkdtemp(prefix="p2r-weights-"))
        try:
            tensors = {
                name: tensor.detach().to("cpu", self.dtype).contiguous() for name, tensor in weights
            }
            save_file(tensors, folder / "model.safetensors")
            del tensors
            self._post(
                "collective_rpc",
                {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}},
            )
        finally:
            shutil.rmtree(folder)

    def reset_caches(self) -> None:
        if self.main:
            self._post("reset_prefix_cache")
            self._post("reset_encoder_cache")

    def _post(self, path: str, body: dict[str, Any] | None = None) -> None:
        url = f"{self.root}/{path}"
        request = urllib.request.Request(
            url,
            data=json.dumps(body or {}).encode(),
            headers={"content-type": "application/json", **self.engine.key_header()},
            method="POST",
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT) as reply:
                reply.read()
        except urllib.error.HTTPError as error:
            raise EngineError(
                f"{url} answered {error.code}: is it a server of p2r serve --rollouts?"
            ) from error
        except OSError as error:
            raise EngineError(f"{url}: {describe_error(error)}") from error
