"""Where vLLM runs during RL, and how it gets the new weights after an update.

| `rl.rollouts` | `vllm.weights` | the weights go |
|---|---|---|
| `vllm` | any | from the trainer's model to vLLM's, in the same OS process |
| `vllm-server` | `file` | through a temporary file, which the server reads |
| `vllm-server` | `nccl` | from GPU to GPU |
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from trl.trainer.utils import ensure_master_addr_port

from p2r.engines import describe_error
from p2r.engines.server import ServerEngine
from p2r.engines.vllm import VllmEngine
from p2r.errors import EngineError
from p2r.runs.recipe import Recipe
from p2r.training.stage import together

log = logging.getLogger(__name__)
Weights = Iterator[tuple[str, torch.Tensor]]
TIMEOUT = 600.0  # seconds for a server to load new weights


class Sampler(Protocol):
    """Samples with an engine and can load new weights into it.

    `load` gets a function that starts to read the weights. All workers call it together and read
    all weights, also after an error, because they gather divided weights together. `sleep` frees
    the engine's memory until the next `load`, if it can, and returns whether it did.
    """

    @property
    def engine(self) -> VllmEngine | ServerEngine: ...

    def load(self, read: Callable[[], Weights]) -> None: ...

    def reset_caches(self) -> None: ...

    def sleep(self) -> bool: ...

    def close(self) -> None: ...


def make_sampler(recipe: Recipe, model: str, trainer: Any) -> Sampler:
    """Return the sampler that the recipe sets, for a trainer and its start model."""
    if recipe.rl.rollouts == "vllm":
        return InProcess(recipe, model, trainer)
    return (OverNccl if recipe.vllm.weights == "nccl" else AtServer)(recipe, model, trainer)


@contextmanager
def all_read(weights: Weights) -> Iterator[Weights]:
    """Read the rest of the weights after the block or its error: other workers wait for that."""
    try:
        yield weights
    except Exception:
        for _ in weights:
            pass
        raise
    for _ in weights:
        pass


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
        self.sleeps = recipe.vllm.sleep and torch.cuda.is_available()
        if recipe.vllm.sleep and not self.sleeps:
            log.warning("vllm.sleep has no effect: vLLM can free its memory on a GPU only")
        if self.sleeps:
            settings["enable_sleep_mode"] = True
        self.asleep = False
        self.engine = VllmEngine(recipe, model, style=trainer.style, logprobs=True, **settings)

    def load(self, read: Callable[[], Weights]) -> None:
        with all_read(read()) as weights:
            if self.asleep:
                torch.cuda.empty_cache()
                self.engine.llm.wake_up(tags=["weights"])
            # This method of vLLM also rebuilds the weights that it stores in packed form.
            self.engine.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if self.asleep:
            self.engine.llm.wake_up(tags=["kv_cache"])
            self.asleep = False

    def reset_caches(self) -> None:
        engine = self.engine.llm.llm_engine
        engine.reset_prefix_cache()
        engine.reset_encoder_cache()

    def sleep(self) -> bool:
        if self.sleeps and not self.asleep:
            self.engine.llm.sleep(level=2)  # frees the weights too: the trainer has newer ones
            self.asleep = True
        return self.asleep

    def close(self) -> None:
        self.engine.close()


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

    def load(self, read: Callable[[], Weights]) -> None:
        with all_read(read()) as weights:
            if self.main:
                self._send(weights)

    def _send(self, weights: Weights) -> None:
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

    def sleep(self) -> bool:
        return False  # the server has a device of its own

    def close(self) -> None:
        """The server goes on."""

    def _post(self, path: str, body: dict[str, Any] | None = None) -> None:
        self._call(path, json.dumps(body or {}).encode())

    def _call(self, path: str, data: bytes | None = None) -> bytes:
        """Return the reply to a POST request, or to a GET request without `data`."""
        url = f"{self.root}/{path}"
        request = urllib.request.Request(
            url,
            data=data,
            headers={"content-type": "application/json", **self.engine.key_header()},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT) as reply:
                return reply.read()
        except urllib.error.HTTPError as error:
            raise EngineError(
                f"{url} answered {error.code}: start the server with p2r serve --rollouts"
            ) from error
        except OSError as error:
            raise EngineError(f"{url}: {describe_error(error)}") from error


class OverNccl(AtServer):
    """vLLM at a server that gets new weights from GPU to GPU (`vllm.weights=nccl`).

    vLLM 0.31 does the transfer: the main worker and the server form a group of their own. This
    class is the client that vLLM asks to start each part of a transfer at the server.
    """

    sender: Any = None  # made at the first transfer

    def load(self, read: Callable[[], Weights]) -> None:
        if self.sender is None:
            with together():  # before the workers begin to gather weights
                self.sender = self._connect(read, self._check_server() if self.main else 0)
        sender: Any = self.sender
        source = sender.source
        source.reading = None
        try:
            sender.send_weights()
        except Exception:
            source.read_rest()
            raise

    def _check_server(self) -> int:
        """Return the number of the server's GPUs. Raises `EngineError`."""
        info = json.loads(self._call("server_info?config_format=json"))["vllm_config"]
        if not info.get("weight_transfer_config"):
            raise EngineError(
                f"the server at {self.root} takes no weights over NCCL: start it with p2r serve "
                "--rollouts --set vllm.weights=nccl, or set vllm.weights=file"
            )
        return int(json.loads(self._call("get_world_size"))["world_size"])

    def _connect(self, read: Callable[[], Weights], gpus: int) -> Any:
        from p2r.engines.vllm_runtime import prepare_vllm

        prepare_vllm()
        from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
        from vllm.distributed.weight_transfer.nccl_engine import (
            NCCLTrainerInitInfo,
            NCCLTrainerWeightTransferEngine,
        )
        from vllm.utils.network_utils import get_ip, get_open_port

        dtype = self.dtype

        class Source(WeightSource):
            """The trainer's weights in the server's type."""

            reading: Weights | None = None  # of this transfer

            def __iter__(self) -> Weights:
                self.reading = ((name, tensor.detach().to(dtype)) for name, tensor in read())
                return self.reading

            def read_rest(self) -> None:
                """Read what this transfer has not read: the other workers read all of it."""
                self.metadata()
                for _ in self.reading or self:
                    pass

            @cached_property
            def shapes(self) -> list[Any]:
                return [ParamMeta(name, dtype, tuple(tensor.shape)) for name, tensor in read()]

            def metadata(self) -> list[Any]:
                return self.shapes

        info = NCCLTrainerInitInfo(
            master_address=get_ip(),
            master_port=get_open_port(),
            world_size=gpus + 1,
            rank=0 if self.main else 1,
        )
        return NCCLTrainerWeightTransferEngine.trainer_init(info, client=self, source=Source())

    # These methods serve vLLM's engine.

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._post("init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        self._post("start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        self._post("update_weights", {"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._post("finish_weight_update")
