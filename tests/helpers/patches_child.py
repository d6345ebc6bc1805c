"""Check the patches of other libraries in a fresh interpreter. Print the results as JSON.

The libraries take seconds to import. This interpreter imports them step by step. Each check that
changes something runs in a fork, so that the next check does not see the change. Nothing that is
imported here starts a thread.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

HEAVY = {"torch", "torchvision", "transformers", "trl", "numpy", "pydantic"}
Result = dict[str, Any]


def main() -> None:
    found = {"p2r": import_p2r()}
    found["gradio"] = in_fork(patched_gradio)
    found["gradio alone"] = in_fork(gradio_alone)
    import torch  # noqa: F401

    found["torchvision alone"] = in_fork(torchvision_alone)
    found["torchvision"] = import_torchvision()
    if find_spec("mistral_common"):
        for patched in (True, False):
            found[f"processor {patched}"] = in_fork(partial(make_processor, patched))
    import datasets  # noqa: F401
    import peft  # noqa: F401
    from transformers import AutoProcessor, Qwen2_5_VLProcessor, Trainer  # noqa: F401

    found["trl alone"] = in_fork(trl_alone)
    found["trl"] = in_fork(patched_trl)
    found["accelerate"] = in_fork(patched_accelerate)
    print(json.dumps(found))


def in_fork(check: Callable[[], Result]) -> Result:
    """Return the result of a check in a fork of this interpreter, or its error."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with open(writing, "w") as answer:
            try:
                json.dump(check(), answer)
            except BaseException:
                json.dump({"error": traceback.format_exc()}, answer)
        os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    return json.loads(said or '{"error": "the fork crashed"}')


def import_p2r() -> Result:
    """Import p2r. Return what the import changed."""
    hooks, environment = list(sys.meta_path), dict(os.environ)
    import p2r  # noqa: F401

    return {
        "hooks": sys.meta_path == hooks,
        "environment": os.environ == environment,
        "heavy": sorted(HEAVY & set(sys.modules)),
    }


def patched_gradio() -> Result:
    """Import Gradio with the patch, which is applied twice, and build a page."""
    from p2r.patches import gradio_start, on_import

    gradio_start.apply()
    gradio_start.apply()
    import gradio
    from gradio import component_meta

    found = {
        "mcp": "mcp" in sys.modules,
        "stubs by": component_meta.create_or_modify_pyi.__module__,
        "hooks": sum(isinstance(hook, on_import.ImportHook) for hook in sys.meta_path),
        "server": hasattr(gradio.mcp.GradioMCPServer, "Server"),
    }
    with gradio.Blocks():
        gradio.Textbox().change(lambda text: text)
    if find_spec("mcp"):
        import mcp  # noqa: F401
    return found


def gradio_alone() -> Result:
    """Return what Gradio does without the patch."""
    import inspect

    import gradio  # noqa: F401
    from gradio import component_meta

    source = inspect.getsource(component_meta.ComponentMeta)
    return {"stubs": "create_or_modify_pyi(" in source, "mcp": "mcp" in sys.modules}


def torchvision_alone() -> Result:
    """Return what the torchvision patch does with a whole torchvision and with this one."""
    import torch

    from p2r.patches.torchvision_operators import declare_operators

    spec, load = PathFinder.find_spec("torchvision"), torch.ops.load_library
    torch.ops.load_library = lambda path: None  # as if the compiled part loads
    whole = [declare_operators(spec), hasattr(torch.ops.torchvision, "qnms")]
    torch.ops.load_library = load
    try:
        import torchvision  # noqa: F401

        imported = True
    except (ImportError, RuntimeError, OSError):
        imported = False
    return {"whole": whole, "needed": not imported, "declared": declare_operators(spec)}


def import_torchvision() -> Result:
    """Import torchvision with the patch, which is applied three times. Return the hooks."""
    from p2r.patches import on_import, torchvision_operators

    def count() -> int:
        return sum(isinstance(hook, on_import.ImportHook) for hook in sys.meta_path)

    torchvision_operators.apply()
    torchvision_operators.apply()
    before = count()
    import torchvision  # noqa: F401

    torchvision_operators.apply()
    return {"before": before, "after": count()}


def make_processor(patched: bool) -> Result:
    """Make a processor with or without the patch of transformers."""
    from p2r.patches import transformers_tokenizers

    if not patched:
        transformers_tokenizers.apply = lambda: None
    from p2r import data

    kind = type(data.load_processor("playground/base")).__name__
    return {"kind": kind, "mistral": "mistral_common" in sys.modules}


class StoppedVllm:
    """Finds vLLM and stops its import where it begins. The whole import takes half a minute."""

    def find_spec(self, name, path=None, target=None):
        if name != "vllm":
            return None
        spec = PathFinder.find_spec(name, path)
        spec.loader = self
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        raise ImportError("TRL imports vLLM")


def trl_alone() -> Result:
    """Import p2r after TRL, then the module of TRL that uses vLLM, without a patch."""
    from trl import import_utils

    flag = import_utils.is_vllm_available
    for name in [name for name in sys.modules if name.partition(".")[0] == "p2r"]:
        del sys.modules[name]
    found = {**import_p2r(), "flag": import_utils.is_vllm_available is flag, "said": ""}
    sys.meta_path.insert(0, StoppedVllm())
    try:
        import trl.generation.vllm_generation  # noqa: F401
    except Exception as error:
        found["said"] = str(error)
    return found


def patched_trl() -> Result:
    """Import the modules of TRL that p2r patches, with the patches."""
    import inspect

    from p2r.patches import trl_fsdp2, trl_vllm

    trl_vllm.apply()
    import trl.generation.vllm_generation  # noqa: F401
    from trl.trainer import grpo_trainer

    code = inspect.getsource(grpo_trainer.prepare_fsdp)
    trl_fsdp2.apply()
    parts = ("fully_shard(model", "fsdp2_prepare_model", "state_dict")
    return {
        "vllm": "vllm" in sys.modules,
        "code": {part: part in code for part in parts},
        "prepared by": grpo_trainer.prepare_fsdp.__module__,
    }


def patched_accelerate() -> Result:
    """Return the output dtype of FSDP2 in bfloat16, without the patch and with it."""
    from accelerate.utils import FullyShardedDataParallelPlugin

    from p2r.patches import accelerate_fsdp2

    def output_dtype() -> str:
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
        plugin.set_mixed_precision("bf16")
        return str(plugin.mixed_precision_policy.output_dtype)

    alone = output_dtype()
    accelerate_fsdp2.apply()
    return {"alone": alone, "patched": output_dtype()}


if __name__ == "__main__":
    main()
