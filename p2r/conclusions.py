"""What a text concludes: the option that thinking, or a long answer, ends on."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from p2r.answers import option_texts

_CUE = re.compile(
    r"\b(?:answers?|options?|choices?|conclude|conclusion|therefore|thus|hence|so|correct|choose|pick|select)\b",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"(?:n't|\b(?:not|neither|nor|without|exclud\w+|eliminat\w+|rul\w+ out|rather than|instead of))"
    r"\W+(?:\w+\W+){0,2}$",
    re.IGNORECASE,
)
_REFUSAL = 80  # characters before a name in which it may be refused


def think_choice(think: str, options: Sequence[str]) -> str | None:
    """The letter of the option that thinking ends on, or None if it ends on none.

    The last sentence that names an option after a word of concluding ("so", "the answer is")
    decides; without one, the last sentence that names any. A sentence that names two different
    options there is no choice. Options are named by their text, or by their letter as "(B)", "B."
    or "option B"; "not B" names none.
    """
    patterns = _option_patterns(options)
    sentences = re.split(r"(?<=[.!?;])\s+|\n+", think)
    named: str | None = None
    for sentence in reversed(sentences):
        names = _names(sentence, patterns)
        if not names:
            continue
        end = len(sentence)  # what follows a later cue was looked at with that cue
        for cue in reversed(list(_CUE.finditer(sentence))):
            found = _not_refused(sentence, names, cue.start(), end)
            if found:
                return found.pop() if len(found) == 1 else None
            end = cue.start()
        found = _not_refused(sentence, names, 0, len(sentence))
        if named is None and found:
            named = found.pop() if len(found) == 1 else ""
    return named or None


def _names(text: str, patterns: dict[str, re.Pattern[str]]) -> list[tuple[int, int, str]]:
    """Start, end and letter of every option named in a text, in order of place, longest first."""
    found = [
        (match.start(), match.end(), letter)
        for letter, pattern in patterns.items()
        for match in pattern.finditer(text)
    ]
    return sorted(found, key=lambda name: (name[0], -name[1]))


def _not_refused(
    text: str, names: Sequence[tuple[int, int, str]], start: int, end: int
) -> set[str]:
    """Letters of the names from `start` on and before `end`; where names overlap the longest
    counts.
    """
    letters: set[str] = set()
    covered = (start, start)
    for begin, stop, letter in names[bisect_left(names, (start,)) : bisect_left(names, (end,))]:
        if _REFUSED.search(text[max(start, begin - _REFUSAL) : begin]):
            continue
        if stop > covered[1] or (begin, stop) == covered:
            letters.add(letter)
            covered = (begin, stop)
    return letters


def _option_patterns(options: Sequence[str]) -> dict[str, re.Pattern[str]]:
    patterns = {}
    for letter, text in option_texts(options).items():
        forms = [
            rf"\({letter}\)",
            rf"(?<!\w){letter}[.):](?=\s|$)",
            rf"(?i:\b(?:option|answer|choice)s?(?: is)?:? ){letter}\b",
        ]
        if letter != "I":
            forms.append(rf"(?<![\w'’]){letter}(?=[.,;!?]?\s*$)")
        if text := text.rstrip(".").strip():
            forms.append(rf"(?i:(?<!\w){re.escape(text)}(?!\w))")
        patterns[letter] = re.compile("|".join(forms))
    return patterns
