"""Experiments over several seeds."""

from p2r.studies.credit import compare_credits

__all__ = ["compare_credits"]
