"""Drop traces with too many letters of scripts that neither the question nor the template uses."""

from __future__ import annotations

import unicodedata
from functools import cache

from p2r.pipeline.quality import Kept
from p2r.records import Case

ORDER = 2
# Scripts that are used together.
_SAME_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "FULLWIDTH": "LATIN"}
# Scripts of formulas, which appear in any language.
_NEUTRAL = {"GREEK", "MICRO", "MODIFIER", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "SUPERSCRIPT"}


def foreign_share(case: Case) -> float:
    """Return the share of a trace's letters whose script its question does not use, in [0, 1].

    Latin letters never count: the template uses them.
    """
    question = case.question
    own = {"LATIN", *map(_script, "".join((question.problem, *question.options, question.answer)))}
    letters = [char for char in case.trace.text if char.isalpha()]
    foreign = sum(not char.isascii() and _script(char) not in own for char in letters)
    return foreign / len(letters) if letters else 0.0


@cache
def _script(char: str) -> str:
    if not char.isalpha():
        return "LATIN"
    script = unicodedata.name(char, "UNKNOWN").split()[0]
    script = _SAME_SCRIPT.get(script, script)
    return "LATIN" if script in _NEUTRAL else script


def find_drops(kept: Kept, highest: float) -> list[str]:
    """Return the keys of traces whose share of foreign letters is above `highest`."""
    return [key for key, case in kept if foreign_share(case) > highest]
