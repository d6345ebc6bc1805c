"""Let child processes of the tests import `tests/helpers`, as the tests themselves do."""

import os
from pathlib import Path

HELPERS = str(Path(__file__).parent / "helpers")
if HELPERS not in os.environ.get("PYTHONPATH", "").split(os.pathsep):
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (HELPERS, os.environ.get("PYTHONPATH", "")))
    )
