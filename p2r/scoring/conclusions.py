"""What a text concludes: the option that thinking, or a long answer, ends on."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from p2r.scoring.answers import option_texts

_CUE = re.compile(
    r"\b(?:answers?|options?|choices?|conclude|conclusion|therefore|thus|hence|so|correct|choose|pick|select)\b",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"(?:n't|\b(?:not|neither|nor|without|exclud\w+|eliminat\w+|rul\w+ out|rather than|instead of))"
    r"\W+(?:\w+\W+){0,2}$",
    re.IGNORECASE,
)
# A capital that stands alone, and what may stand before it.
_CAPITAL = re.compile(r"[A-Z](?<!\w[A-Z])(?!\w)")
_INTRODUCED = re.compile(r"\b(?:option|answer|choice)s?(?: is)?:? $", re.IGNORECASE)
_INTRODUCTION = len(" options is: ")
_AT_THE_END = re.compile(r"[.,;!?]?\s*$")
# Between two sentences; begins with the space, so that only spaces are looked at.
_SENTENCE = re.compile(r"\s(?:(?<=[.!?;]\s)\s*|(?<=\n)\n*)")
_REFUSAL = 80  # characters before a name in which it may be refused


def think_choice(think: str, options: Sequence[str]) -> str | None:
    """The letter of the option that thinking ends on, or None if it ends on none.

    The last sentence that names an option after a word of concluding ("so", "the answer is")
    decides; without one, the last sentence that names any. A sentence that names two different
    options there is no choice. Options are named by their text, or by their letter as "(B)", "B."
    or "option B"; "not B" names none.
    """
    texts = {
        letter: text.rstrip(".").strip().lower() for letter, text in option_texts(options).items()
    }
    lowered = think.lower()
    if not any(text and text in lowered for text in texts.values()) and not any(
        match[0] in texts for match in _CAPITAL.finditer(think)
    ):
        return None  # names none anywhere
    named: str | None = None
    for sentence in reversed(_SENTENCE.split(think)):
        names = _names(sentence, texts)
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


def _names(sentence: str, texts: dict[str, str]) -> list[tuple[int, int, str]]:
    """Start, end and letter of every option named in a sentence, in order of place, longest
    first.
    """
    found = [
        (start, end, match[0])
        for match in _CAPITAL.finditer(sentence)
        if match[0] in texts
        for start, end in _named_by_letter(sentence, match.start())
    ]
    lowered = sentence.lower()
    for letter, text in texts.items():
        start = lowered.find(text) if text else -1
        while start >= 0:
            end = start + len(text)
            if not (_is_word(lowered, start - 1) or _is_word(lowered, end)):
                found.append((start, end, letter))
            start = lowered.find(text, start + 1)
    return sorted(found, key=lambda name: (name[0], -name[1]))


def _named_by_letter(sentence: str, place: int) -> Iterator[tuple[int, int]]:
    """The stretches by which a capital at a place names an option: none for an article."""
    before, after = sentence[:place], sentence[place + 1 : place + 3]
    if before.endswith("(") and after.startswith(")"):
        yield place - 1, place + 2
    if after[:1] in {".", ")", ":"} and not after[1:].strip():
        yield place, place + 2
    if match := _INTRODUCED.search(sentence, max(0, place - _INTRODUCTION), place):
        yield match.start(), place + 1
    alone = sentence[place] != "I" and not before.endswith(("'", "’"))
    if alone and _AT_THE_END.match(sentence, place + 1):
        yield place, place + 1


def _is_word(text: str, place: int) -> bool:
    """Whether a character of a word stands there."""
    return 0 <= place < len(text) and (text[place].isalnum() or text[place] == "_")


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
