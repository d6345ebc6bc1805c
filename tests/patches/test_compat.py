"""torchvision imports beside any build of torch, and importing p2r costs nothing."""

import subprocess
import sys


def run(code: str) -> str:
    """Standard output of a fresh interpreter, where nothing is imported yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_p2r_does_not_import_torch():
    assert run("import sys, p2r; print('torch' in sys.modules, 'torchvision' in sys.modules)") == (
        "False False"
    )


def test_torchvision_and_what_needs_it_import_after_p2r():
    code = "import p2r, torchvision; from transformers import AutoProcessor; print('ok')"
    assert run(code) == "ok"


def test_the_hook_is_installed_once_and_goes_away_after_its_work():
    code = """
import sys, p2r
from p2r import compat
compat.install()
count = lambda: sum(isinstance(f, compat.TorchvisionFinder) for f in sys.meta_path)
before = count()
import torchvision
compat.install()
print(before, count())
"""
    assert run(code) == "1 0"


def test_trl_does_not_import_vllm():
    """Which takes half a minute, wherever it is installed."""
    code = "import sys, p2r; import trl.generation.vllm_generation; print('vllm' in sys.modules)"
    assert run(code) == "False"


def test_nothing_is_declared_where_torchvision_is_whole():
    code = """
import torch
from importlib.machinery import PathFinder
from p2r import compat
torch.ops.load_library = lambda path: None  # the compiled part loads
print(compat.declare_operators(PathFinder.find_spec("torchvision")))
print(hasattr(torch.ops.torchvision, "qnms"))
"""
    assert run(code).split() == ["False", "False"]
