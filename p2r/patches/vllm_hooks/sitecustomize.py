"""Python runs this file when a subprocess of vLLM starts; see `p2r.engines.vllm_runtime`.

vLLM starts separate interpreters for model inspection, engine and workers. This file applies
p2r's patches in each of them.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

from p2r.patches import torchvision_operators, vllm_positions, vllm_weights

torchvision_operators.apply()
vllm_positions.apply()
vllm_weights.apply()

# This file hides the environment's own sitecustomize, so run that one too, if there is one.
_here = Path(__file__).resolve().parent
_other = PathFinder.find_spec(
    "sitecustomize", [entry for entry in sys.path if Path(entry).resolve() != _here]
)
if _other and _other.loader:
    _other.loader.exec_module(module_from_spec(_other))
