"""The CoT pipeline: generate traces, verify them, collect the SFT set."""

from p2r.pipeline.filtering import ToJudge, filter_traces, verify
from p2r.pipeline.generation import find_hard, generate_traces
from p2r.pipeline.sft_set import collect_cases, read_kept

__all__ = [
    "ToJudge",
    "collect_cases",
    "filter_traces",
    "find_hard",
    "generate_traces",
    "read_kept",
    "verify",
]
