"""What the notebooks share."""

from p2r.workshop.notebook import (
    SCALES,
    WorkshopError,
    begin,
    check,
    need,
    read_metrics,
    show_case,
    show_question,
)

__all__ = [
    "SCALES",
    "WorkshopError",
    "begin",
    "check",
    "need",
    "read_metrics",
    "show_case",
    "show_question",
]
