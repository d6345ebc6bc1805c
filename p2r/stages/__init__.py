"""The stages of a run, one function each: what the command line, notebooks and studies call.

    generate -> filter -> sft -> rl -> evaluate

A stage finds its inputs in the run folder and writes its outputs there. It skips finished work, so
calling it again resumes it.
"""

from p2r.runs.names import RL_STAGES
from p2r.stages.data_set import estimate_filter, filter, generate
from p2r.stages.evaluation import (
    answer_shard,
    evaluate,
    evaluate_benchmark,
    name_of_model,
    transfer,
)
from p2r.stages.inputs import (
    SPLITS,
    find_questions,
    make_playground,
    prepare,
)
from p2r.stages.media_folder import claim_data_root, find_data_root
from p2r.stages.training import keep_last_rollouts, rl, sft

__all__ = [
    "RL_STAGES",
    "SPLITS",
    "answer_shard",
    "claim_data_root",
    "estimate_filter",
    "evaluate",
    "evaluate_benchmark",
    "filter",
    "find_data_root",
    "find_questions",
    "generate",
    "keep_last_rollouts",
    "make_playground",
    "name_of_model",
    "prepare",
    "rl",
    "sft",
    "transfer",
]
