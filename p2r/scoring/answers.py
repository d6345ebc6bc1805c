"""Readers of answers: which option an answer names, and which number it gives."""

from p2r.scoring.choices import LONGEST_REMARK, extract_choice, mentions
from p2r.scoring.numbers import Number, parse_number, read_number, readings, same_value
from p2r.template import option_texts

__all__ = [
    "LONGEST_REMARK",
    "Number",
    "extract_choice",
    "mentions",
    "option_texts",
    "parse_number",
    "read_number",
    "readings",
    "same_value",
]
