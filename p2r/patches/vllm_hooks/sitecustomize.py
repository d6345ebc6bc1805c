"""Read by Python at the start of every process of vLLM: see `p2r.engines.vllm_runtime`.

vLLM starts interpreters of its own (model inspection, engine, workers). `import p2r` makes
torchvision importable there, and the hooks give vLLM the positions that the models were trained
with, and the whole of new weights.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

from p2r.patches import vllm_positions, vllm_weights

vllm_positions.install()
vllm_weights.install()

# This file hides the environment's own sitecustomize, where there is one.
_here = Path(__file__).resolve().parent
_other = PathFinder.find_spec(
    "sitecustomize", [entry for entry in sys.path if Path(entry).resolve() != _here]
)
if _other and _other.loader:
    _other.loader.exec_module(module_from_spec(_other))
