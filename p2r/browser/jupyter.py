"""The entry of the case browser in JupyterLab's launcher, for jupyter-server-proxy."""

from __future__ import annotations

import os
import sys
from typing import Any


def make_entry() -> dict[str, Any]:
    """Return the entry: it serves the runs in P2R_RUNS (default `runs/demo`).

    On a hub the browser takes any host name: see `allowed_hosts`. In another JupyterLab it takes
    the names of this machine, and those in P2R_HOSTS. Both variables may hold several values,
    separated by commas (P2R_HOSTS) or like those of PATH (P2R_RUNS).
    """
    from p2r.browser.served import allowed_hosts

    runs = os.environ.get("P2R_RUNS", "runs/demo").split(os.pathsep)
    named = [name for name in os.environ.get("P2R_HOSTS", "").split(",") if name]
    command = [sys.executable, "-m", "p2r", "app", *runs, "--port", "{port}"]
    command += ["--root-path", "{base_url}p2r"]
    for host in allowed_hosts("", named):
        command += ["--allow-host", host]
    return {
        "command": command,
        "timeout": 120,
        "launcher_entry": {"title": "p2r cases"},
    }
