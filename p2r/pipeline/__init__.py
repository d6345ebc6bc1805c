"""The CoT pipeline: generate traces, verify them, collect the SFT set."""

from p2r.pipeline.steps import (
    ToJudge,
    collect_cases,
    filter_traces,
    find_hard,
    generate_traces,
    read_kept,
    verify,
)

__all__ = [
    "ToJudge",
    "collect_cases",
    "filter_traces",
    "find_hard",
    "generate_traces",
    "read_kept",
    "verify",
]
