"""Accuracy by problem type, readers of answers and thoughts, and statistics."""

from p2r.scoring.rules import MRA_THRESHOLDS, accuracy, mra, score_answer
from p2r.scoring.statistics import (
    format_interval,
    mcnemar,
    mean_interval,
    resample_means,
    to_interval,
)

__all__ = [
    "MRA_THRESHOLDS",
    "accuracy",
    "format_interval",
    "mcnemar",
    "mean_interval",
    "mra",
    "resample_means",
    "score_answer",
    "to_interval",
]
