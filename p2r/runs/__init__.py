"""Recipes and run folders.

`recipe` reads the settings, `folder` begins and resumes runs, `software` records versions and
hardware, `models` identifies model weights, `names` lists the stages.
"""

from p2r.files.atomic import read_json, replacing, write_json, write_text
from p2r.runs.folder import Run, check_run, claim, differences, kept_root, open_run, preview_run
from p2r.runs.models import finished_model, model_fingerprint, shipped_models
from p2r.runs.software import environment, quiet_libraries, use_threads, version_of

__all__ = [
    "Run",
    "check_run",
    "claim",
    "differences",
    "environment",
    "finished_model",
    "kept_root",
    "model_fingerprint",
    "open_run",
    "preview_run",
    "quiet_libraries",
    "read_json",
    "replacing",
    "shipped_models",
    "use_threads",
    "version_of",
    "write_json",
    "write_text",
]
