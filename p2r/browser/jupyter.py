"""The entry of the case browser in JupyterLab's launcher, for jupyter-server-proxy."""

from __future__ import annotations

import os
import sys
from typing import Any


def make_entry() -> dict[str, Any]:
    """Return the entry: it serves the runs in P2R_RUNS (default `runs/demo`).

    The server of a hub is not the machine of a visitor, so any host name is safe.
    """
    runs = os.environ.get("P2R_RUNS", "runs/demo").split(os.pathsep)
    command = [sys.executable, "-m", "p2r", "app", *runs, "--port", "{port}"]
    return {
        "command": [*command, "--root-path", "{base_url}p2r", "--allow-host", "*"],
        "timeout": 120,
        "launcher_entry": {"title": "p2r cases"},
    }
