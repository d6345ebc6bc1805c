"""Experiments over several seeds."""

from p2r.studies.credit import compare_credits, study_table

__all__ = ["compare_credits", "study_table"]
