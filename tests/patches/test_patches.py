"""Patches of other libraries: `import p2r` applies none, each works, each is still needed.

Every check runs in a fresh interpreter, where nothing is imported yet.
"""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm is not installed"
)


def run(code: str) -> str:
    """Return the standard output of a fresh interpreter; fails if it fails."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_p2r_changes_nothing():
    code = """
import os, sys
from trl import import_utils
flag, hooks, environment = import_utils.is_vllm_available, list(sys.meta_path), dict(os.environ)
import p2r
print(import_utils.is_vllm_available is flag, sys.meta_path == hooks, os.environ == environment)
"""
    assert run(code) == "True True True"


def test_importing_p2r_imports_no_heavy_library():
    heavy = {"torch", "torchvision", "transformers", "trl", "numpy", "pydantic"}
    code = f"import sys, p2r; print(sorted({heavy} & set(sys.modules)))"
    assert run(code) == "[]"


def test_torchvision_imports_after_the_patch_and_the_hook_removes_itself():
    code = """
import sys
from p2r.patches import on_import, torchvision_operators
torchvision_operators.apply()
torchvision_operators.apply()
count = lambda: sum(isinstance(hook, on_import.ImportHook) for hook in sys.meta_path)
before = count()
import torchvision
torchvision_operators.apply()
print(before, count())
from transformers import AutoProcessor, Qwen2_5_VLProcessor
"""
    assert run(code) == "1 0"


def test_the_torchvision_patch_is_needed_exactly_where_torchvision_cannot_be_imported():
    """A whole torchvision stays as it is. If it imports here by itself, the patch can go."""
    code = """
import torch
from importlib.machinery import PathFinder
from p2r.patches.torchvision_operators import declare_operators
spec, load = PathFinder.find_spec("torchvision"), torch.ops.load_library
torch.ops.load_library = lambda path: None  # as if the compiled part loads
print(declare_operators(spec), hasattr(torch.ops.torchvision, "qnms"))
torch.ops.load_library = load
try:
    import torchvision
    imported = True
except (ImportError, RuntimeError, OSError):
    imported = False
print(declare_operators(spec) == (not imported))
"""
    assert run(code).split() == ["False", "False", "True"]


@pytest.mark.skipif(
    importlib.util.find_spec("mistral_common") is None, reason="mistral-common is not installed"
)
@pytest.mark.parametrize("patched", [True, False])
def test_a_processor_imports_mistral_common_only_without_the_patch(patched):
    """If the case without the patch fails, transformers no longer needs the patch."""
    code = f"""
import sys
from p2r.patches import transformers_tokenizers
if not {patched}:
    transformers_tokenizers.apply = lambda: None
from p2r import data
print(type(data.load_processor("playground/base")).__name__, "mistral_common" in sys.modules)
"""
    assert run(code) == f"Qwen2_5_VLProcessor {not patched}"


@needs_vllm
def test_trl_imports_vllm_without_the_patch():
    """If this fails, TRL no longer imports vLLM unasked and the patch can go.

    The import of vLLM, which takes half a minute, stops where it begins.
    """
    code = """
import sys
from importlib.machinery import PathFinder
from p2r.patches import torchvision_operators
torchvision_operators.apply()
class Finder:
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
sys.meta_path.insert(0, Finder())
try:
    import trl.generation.vllm_generation
    print("not imported")
except Exception as error:
    print(error)
"""
    assert "TRL imports vLLM" in run(code)


def test_trl_imports_no_vllm_with_the_patch_and_would_shard_a_reference_model_without_its_weights():
    """If this fails, TRL prepares the reference with accelerate and the patch can go."""
    code = """
from p2r.patches import torchvision_operators, trl_fsdp2, trl_vllm
for patch in (torchvision_operators, trl_vllm):
    patch.apply()
import inspect, sys
from trl.trainer import grpo_trainer
import trl.generation.vllm_generation
print("vllm" in sys.modules)
code = inspect.getsource(grpo_trainer.prepare_fsdp)
print("fully_shard(model" in code, "fsdp2_prepare_model" in code, "state_dict" in code)
trl_fsdp2.apply()
print(grpo_trainer.prepare_fsdp.__module__)
"""
    assert run(code).split() == ["False", "True", "False", "False", "p2r.patches.trl_fsdp2"]


def test_gradio_starts_without_stubs_and_mcp():
    code = """
import importlib.util, sys
from p2r.patches import gradio_start, on_import
gradio_start.apply()
gradio_start.apply()
import gradio
from gradio import component_meta
stubs = component_meta.create_or_modify_pyi.__module__
left = sum(isinstance(hook, on_import.ImportHook) for hook in sys.meta_path)
print("mcp" in sys.modules, stubs, left, hasattr(gradio.mcp.GradioMCPServer, "Server"))
with gradio.Blocks():
    gradio.Textbox().change(lambda text: text)
if importlib.util.find_spec("mcp"):
    import mcp
"""
    assert run(code) == "False p2r.patches.gradio_start 0 False"


def test_the_gradio_patch_is_still_needed():
    code = """
import importlib.util, inspect, sys
import gradio
from gradio import component_meta
stubs = "create_or_modify_pyi(" in inspect.getsource(component_meta.ComponentMeta)
print(stubs, ("mcp" in sys.modules) == (importlib.util.find_spec("mcp") is not None))
"""
    assert run(code) == "True True"
