"""Recipes and run folders."""

from p2r.runs.folder import (
    Run,
    check_run,
    claim,
    differences,
    environment,
    finished_model,
    model_fingerprint,
    open_run,
    quiet_libraries,
    read_json,
    replacing,
    use_threads,
    version_of,
    write_json,
    write_text,
)

__all__ = [
    "Run",
    "check_run",
    "claim",
    "differences",
    "environment",
    "finished_model",
    "model_fingerprint",
    "open_run",
    "quiet_libraries",
    "read_json",
    "replacing",
    "use_threads",
    "version_of",
    "write_json",
    "write_text",
]
