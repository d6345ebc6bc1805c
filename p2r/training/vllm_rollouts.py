"""RL rollouts by vLLM with native video, inside the trainer or at a server of `p2r serve`.

TRL 1.16 passes only images to vLLM, and it does not reset vLLM's encoder cache after an update.
Here the engines of `p2r.engines` sample the rollouts, with the same prompts, frames, positions and
banned tokens as everywhere else. After every optimiser step they load the new weights and clear all
caches.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
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

from p2r.engines import Completion, Request, Sampling, describe_error
from p2r.engines.server import ServerEngine
from p2r.engines.vllm import VllmEngine
from p2r.errors import EngineError, P2RError, TrainingError
from p2r.runs.recipe import Recipe
from p2r.training.stage import raise_together

log = logging.getLogger(__name__)
Weights = Iterator[tuple[str, torch.Tensor]]
TIMEOUT = 600.0  # seconds for a server to load new weights


class Sampler(Protocol):
    """Samples with an engine and can load new weights into it."""

    engine: VllmEngine | ServerEngine

    def load(self, weights: Weights) -> None: ...

    def reset_caches(self) -> None: ...


def attach_vllm(trainer: Any, recipe: Recipe) -> None:
    """Let vLLM sample the rollouts of a trainer; `recipe.rl.rollouts` selects where vLLM runs.

    TRL then corrects the difference between the probabilities of vLLM and the trainer. The
    correction is a truncated importance weight per token. (TRL's default drops whole responses.)
    Raises `EngineError`.
    """
    trainer.vllm_generation = VllmRollouts(trainer, recipe)
    trainer.use_vllm = True
    trainer.vllm_mode = "colocate" if recipe.rl.rollouts == "vllm" else "server"
    trainer.vllm_importance_sampling_mode = "token_truncate"
    trainer._last_loaded_step = -1


class VllmRollouts(VLLMGeneration):
    """Replaces TRL's vLLM generation.

    TRL's own code still gathers the weights from FSDP, DeepSpeed and adapters.
    """

    ATTEMPTS = 5  # for each rollout
    PAUSE = 2.0  # seconds before the second attempt; doubled for each further one

    def __init__(self, trainer: Any, recipe: Recipe) -> None:
        self.trainer, self.recipe = trainer, recipe
        self.model, self.accelerator = trainer.model, trainer.accelerator
        self._dist = DistributedBackend(self.accelerator)
        kind = InProcess if recipe.rl.rollouts == "vllm" else AtServer
        self.sampler: Sampler = kind(recipe, self.model.name_or_path, trainer)

    def sync_weights(self) -> None:
        """Serves `GRPOTrainer`: load the trainer's weights into vLLM and clear its caches."""
        weights = self._iter_named_params()
        self.sampler.load(weights)
        for _ in weights:  # all workers gather the weights together, so each must finish the loop
            pass
        self.sampler.reset_caches()
        self.accelerator.wait_for_everyone()

    def generate(
        self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any = None
    ) -> tuple[list, list, list, None]:
        """Serves `GRPOTrainer._generate_single_turn`: sample one completion for each row.

        Returns prompt ids, completion ids and the log-probs of the sampled tokens, (rows, tokens,
        1). A rollout that fails is asked for again, alone. Raises `TrainingError` on all workers if
        one fails every time.
        """
        trainer, rl = self.trainer, self.recipe.rl
        # The seed depends on step and row, so a resumed run samples the same completions.
        place = f"{trainer.state.global_step}/{self.accelerator.process_index}"
        if not trainer.model.training:
            place = f"eval/{place}"
        if trainer.step.shuffled:
            place = f"shuffled/{place}"
        requests = [
            Request(f"{place}/{row}", question, frames)
            for row, (question, frames) in enumerate(
                zip(trainer.step.questions, trainer.step.frames, strict=True)
            )
        ]
        sampling = Sampling(rl.temperature, rl.top_p, rl.max_tokens, self.recipe.seed)
        error: Exception | None = None
        try:
            completions = self._complete(requests, sampling)
            for completion, prompt in zip(completions, prompts, strict=True):
                if completion.prompt_tokens != len(prompt):
                    raise TrainingError(
                        f"vLLM encoded a prompt to {completion.prompt_tokens} tokens, the trainer "
                        f"to {len(prompt)}: use the same model and processor files for both"
                    )
        except P2RError as raised:
            error = raised
        raise_together(error)
        logprobs = [[[value] for value in c.logprobs or ()] for c in completions]
        return prompts, [c.token_ids for c in completions], logprobs, None

    def _complete(self, requests: list[Request], sampling: Sampling) -> list[Completion]:
        """Return a completion for each request; ask again for those that fail.

        An engine that has died is an error at once: a new one would have the start model's weights.
        """
        found: dict[str, Completion] = {}
        left = requests
        for attempt in range(self.ATTEMPTS):
            if attempt:
                time.sleep(self.PAUSE * 2 ** (attempt - 1))
            found |= {c.key: c for c in self.sampler.engine.generate(left, sampling)}
            left = [request for request in left if found[request.key].error is not None]
            if not left:
                return [found[request.key] for request in requests]
            log.warning(
                "vLLM failed on %d of %d rollouts (attempt %d of %d): %s",
                len(left),
                len(requests),
                attempt + 1,
                self.ATTEMPTS,
                found[left[0].key].error,
            )
        failed = found[left[0].key]
        raise TrainingError(
            f"vLLM failed on rollout {failed.key} {self.ATTEMPTS} times: {failed.error}. Repair it "
            "and start again: training resumes with this step"
        )


class InProcess:
    """vLLM inside the trainer's OS process, on its device."""

    def __init__(self, recipe: Recipe, model: str, trainer: Any) -> None:
        workers = trainer.accelerator.num_processes
        settings: dict[str, Any] = {
            "gpu_memory_utilization": recipe.vllm.rollout_memory,
            "tensor_parallel_size": 1,
        }
        if workers > 1:  # one engine in each worker of `accelerate launch`
            settings["distributed_executor_backend"] = "external_launcher"
            os.environ["RANK"] = str(trainer.accelerator.process_index)
            os.environ["LOCAL_RANK"] = str(trainer.accelerator.local_process_index)
            os.environ["WORLD_SIZE"] = str(workers)
            ensure_master_addr_port()
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        self.engine = VllmEngine(recipe, model, style=trainer.style, logprobs=True, **settings)

    def load(self, weights: Weights) -> None:
        # This method of vLLM also rebuilds the weights that it stores in packed form.
        self.engine.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})

    def reset_caches(self) -> None:
        engine = self.engine.llm.llm_engine
        engine.reset_prefix_cache()
        engine.reset_encoder_cache()


class AtServer:
    """vLLM at a server started with `p2r serve --rollouts`.

    The trainer writes new weights to a temporary folder (below TMPDIR), and the server reads them.
    Both must see this folder.
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
                f"{url} answered {error.code}: start the server with p2r serve --rollouts"
            ) from error
        except OSError as error:
            raise EngineError(f"{url}: {describe_error(error)}") from error
