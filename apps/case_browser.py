"""Runs the case browser: `python apps/case_browser.py RUN…`, or call `launch` in a notebook.

In a Hugging Face Space it is the app: it serves the folders in `runs/` to everybody, read-only.
"""

import os
import sys
from pathlib import Path

from p2r.browser.app import launch

__all__ = ["launch"]


def find_runs(arguments: list[str]) -> list[str]:
    """Return the given run folders, or those in `runs/` that have cases."""
    found = sorted({str(file.parent) for file in Path("runs").glob("*/cases.parquet")})
    return arguments or found or ["runs/demo"]


if __name__ == "__main__":
    if os.environ.get("SPACE_ID"):
        launch(find_runs(sys.argv[1:]), host="0.0.0.0", port=7860, read_only=True)
    else:
        launch(find_runs(sys.argv[1:]))
