"""What the notebooks share."""

from p2r.workshop.notebook import SCALES, begin, check, need, read_metrics, show_case, show_question

__all__ = ["SCALES", "begin", "check", "need", "read_metrics", "show_case", "show_question"]
