"""Shared by the notebooks: the run, its variants, earlier stages; `checks` and `widgets`."""

from p2r.workshop.notebook import (
    SCALES,
    begin,
    need,
    own_clips,
    read_metrics,
    show_case,
    show_question,
)
from p2r.workshop.variants import compare, vary

__all__ = [
    "SCALES",
    "begin",
    "compare",
    "need",
    "own_clips",
    "read_metrics",
    "show_case",
    "show_question",
    "vary",
]
