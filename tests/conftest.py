"""Let child processes of the tests import `tests/helpers`, and apply p2r's patches.

Some tests import transformers or TRL before a module of p2r that needs them patched.
"""

import os
from pathlib import Path

from p2r.patches import torchvision_operators, trl_vllm

HELPERS = str(Path(__file__).parent / "helpers")
if HELPERS not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (HELPERS, os.environ.get("PYTHONPATH", "")))
    )

torchvision_operators.apply()
trl_vllm.apply()
