"""Runs the case browser: `python apps/case_browser.py RUN`, or call `launch` in a notebook."""

import sys

from p2r.browser.app import build_app, launch

__all__ = ["build_app", "launch"]

if __name__ == "__main__":
    launch(sys.argv[1:] or ["runs/demo"])
