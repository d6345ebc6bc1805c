"""The entry of the case browser in JupyterLab's launcher, for jupyter-server-proxy."""

from __future__ import annotations

import os
import sys
from typing import Any


def make_entry() -> dict[str, Any]:
    """Return the entry: it serves the runs in P2R_RUNS (default `runs/demo`).

    The browser answers to the names of this machine, on a hub to any name, and to the names in
    P2R_HOSTS. Commas separate these names; `os.pathsep` separates the runs.
    """
    runs = os.environ.get("P2R_RUNS", "runs/demo").split(os.pathsep)
    command = [sys.executable, "-m", "p2r", "app", *runs, "--port", "{port}"]
    command += ["--root-path", "{base_url}p2r"]
    for host in os.environ.get("P2R_HOSTS", "").split(","):
        command += ["--allow-host", host.strip()] if host.strip() else []
    return {
        "command": command,
        "timeout": 120,
        "launcher_entry": {"title": "p2r cases"},
    }
