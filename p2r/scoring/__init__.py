"""Accuracy by problem type, reading answers and thoughts, and statistics."""

from p2r.scoring.rules import (
    MRA_CONVENTIONS,
    accuracy,
    format_interval,
    mean_interval,
    mra,
    resample_means,
    score_answer,
    to_interval,
)

__all__ = [
    "MRA_CONVENTIONS",
    "accuracy",
    "format_interval",
    "mean_interval",
    "mra",
    "resample_means",
    "score_answer",
    "to_interval",
]
