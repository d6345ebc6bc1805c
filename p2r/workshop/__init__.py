"""Shared by the notebooks: the run, earlier stages, exercises."""

from p2r.workshop.notebook import SCALES, begin, check, need, read_metrics, show_case, show_question

__all__ = ["SCALES", "begin", "check", "need", "read_metrics", "show_case", "show_question"]
