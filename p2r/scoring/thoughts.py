"""Reads the thinking of a response: which option it ends on, and whether the answer differs.

Unknown never counts as wrong: a case without a score, a verdict or a readable choice is unknown.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from p2r.records import RIGHT_ACCURACY, Case
from p2r.scoring.choices import extract_choice
from p2r.scoring.cues import (
    LETTER_BEFORE,
    REFUSED_AFTER,
    end_of_last_cue,
    first_clause,
    one_word,
    refused_spans,
)
from p2r.template import option_texts, strip_control_tokens

_CUE = re.compile(
    r"\b(?:answers?|options?|choices?|conclude|conclusion|therefore|thus|hence|so|correct|choose|pick|select)\b"
    r"|答案|选项|選項|所以|因此|故|[选選]",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"(?:n't|\b(?:not|neither|nor|without|exclud\w+|eliminat\w+|rul\w+ out|rather than|instead of))"
    r"\W+(?:\w+\W+){0,2}$",
    re.IGNORECASE,
)
# A capital letter that is a word by itself, and the words that may introduce it.
_CAPITAL = re.compile(r"[A-Z](?<![A-Za-z0-9_][A-Z])(?![A-Za-z0-9_])")
_INTRODUCED = re.compile(
    r"\b(?:option|answer|choice)s?(?: is)?:? $|(?:选项|選項|答案[是为為]?[:：]?|[选選]) ?$",
    re.IGNORECASE,
)
_INTRODUCTION = len(" options is: ")
_CALLED_RIGHT = re.compile(
    r"\)? (?:is|must be|would be) (?:the )?(?:(?:most|best|only) )?(?:correct|right|best|answer)\b"
    r"|\)?(?:选项|選項)?(?:是|才是)?(?:正确|正確|对的|對的)"
)
_AT_THE_END = re.compile(r"[.,;!?。，；！？]?\s*$")
_LIST = 24  # characters before a letter that are searched for another one
# The space between two sentences. The pattern starts with the space, so it is tried only there.
_SENTENCE = re.compile(r"\s(?:(?<=[.!?;]\s)\s*|(?<=\n)\n*)|(?<=[。！？；])")
_REFUSAL = 80  # characters before an option's name that are searched for a refusal ("not B")


def think_choice(think: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that the thinking ends on, or None.

    The last sentence that names an option after a concluding word ("so", "the answer is") decides.
    If there is none, the last sentence that names any option decides. After "the answer is" only
    the first clause counts. A sentence that names two different options there gives no choice. An
    option is named by its text, or by its letter as "(B)", "B.", "option B" or "B is correct".
    "not B" and "B is wrong" name no option.
    """
    think = strip_control_tokens(think)
    texts = {
        letter: text.rstrip(".").strip().lower() for letter, text in option_texts(options).items()
    }
    lowered = think.lower()
    if not any(text and text in lowered for text in texts.values()) and not any(
        match[0] in texts for match in _CAPITAL.finditer(think)
    ):
        return None  # no option is named anywhere
    named: str | None = None
    for sentence in reversed(_SENTENCE.split(think)):
        names = _names(sentence, texts)
        if not names:
            continue
        answered = end_of_last_cue(sentence)
        if answered is not None:
            clause = answered + len(first_clause(sentence[answered:]))
            found = _not_refused(sentence, names, answered, clause)
            if found:
                return found.pop() if len(found) == 1 else None
        end = len(sentence)  # text after a later cue was searched with that cue
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
    """Return (start, end, letter) of every option named in a sentence, by place, longest first."""
    found = [
        (start, end, match[0])
        for match in _CAPITAL.finditer(sentence)
        if match[0] in texts
        for start, end in _named_by_letter(sentence, match.start())
    ]
    for start, _, _ in list(found):
        before = max(0, start - _LIST)
        if (listed := LETTER_BEFORE.search(sentence[before:start])) and listed[1] in texts:
            found.append((before + listed.start(), start, listed[1]))
    refused = refused_spans(sentence) if found else []
    found = [name for name in found if not any(start <= name[0] < end for start, end in refused)]
    lowered = sentence.lower()
    for letter, text in texts.items():
        start = lowered.find(text) if text else -1
        while start >= 0:
            end = start + len(text)
            left, right = lowered[max(0, start - 1) : start], lowered[end : end + 1]
            if not (one_word(left, text[0]) or one_word(text[-1], right)):
                found.append((start, end, letter))
            start = lowered.find(text, start + 1)
    return sorted(found, key=lambda name: (name[0], -name[1]))


def _named_by_letter(sentence: str, place: int) -> Iterator[tuple[int, int]]:
    """Yield the spans in which a capital letter names an option. An article ("A ball") has none."""
    before, after = sentence[:place], sentence[place + 1 : place + 3]
    if before.endswith("(") and after.startswith(")"):
        yield place - 1, place + 2
    if after[:1] in {".", ")", ":"} and not after[1:].strip():
        yield place, place + 2
    if _INTRODUCED.search(sentence, max(0, place - _INTRODUCTION), place):
        yield place, place + 1
    if _CALLED_RIGHT.match(sentence, place + 1):
        yield place, place + 1
    alone = sentence[place] != "I" and not before.endswith(("'", "’"))
    if alone and _AT_THE_END.match(sentence, place + 1):
        yield place, place + 1


def _not_refused(
    text: str, names: Sequence[tuple[int, int, str]], start: int, end: int
) -> set[str]:
    """Return the letters of the names in text[start:end] that are not refused.

    If names overlap, the longest counts.
    """
    letters: set[str] = set()
    covered = (start, start)
    for begin, stop, letter in names[bisect_left(names, (start,)) : bisect_left(names, (end,))]:
        if _REFUSED.search(text[max(start, begin - _REFUSAL) : begin]):
            continue
        if REFUSED_AFTER.match(text, stop):
            continue
        if stop > covered[1] or (begin, stop) == covered:
            letters.add(letter)
            covered = (begin, stop)
    return letters


# ---- answer and thinking, answer and perception


def perception_by_answer(
    cases: Iterable[Case], min_accuracy: float = RIGHT_ACCURACY
) -> dict[str, dict[str, int]]:
    """Count the cases by perception and answer (the 2 × 2 table).

    Returns {"sufficient" | "insufficient" | "unknown": {"right" | "wrong" | "unknown": cases}}.
    """
    table = {
        row: dict.fromkeys(("right", "wrong", "unknown"), 0)
        for row in ("sufficient", "insufficient", "unknown")
    }
    for case in cases:
        sufficient = case.verdict.sufficient if case.verdict else None
        row = {True: "sufficient", False: "insufficient", None: "unknown"}[sufficient]
        right = None if case.accuracy is None else case.accuracy >= min_accuracy
        table[row][{True: "right", False: "wrong", None: "unknown"}[right]] += 1
    return table


def mismatch(case: Case) -> bool | None:
    """Return whether the answer differs from the option that the thinking ends on.

    The rule `think_choice` reads the thinking. The result is None (unknown) if the question is not
    multiple choice, or if the thinking or the answer names no option. The paper asks an LLM
    instead. The rule costs nothing and is exact on clear endings.
    """
    question, trace = case.question, case.trace
    if question.problem_type != "multiple choice" or not trace.think or trace.answer is None:
        return None
    thought = think_choice(trace.think, question.options)
    answered = thought and extract_choice(trace.answer, question.options)
    return None if answered is None else thought != answered


def mismatch_tags(case: Case) -> list[str]:
    """Return the tag "mismatch" if a case has one. Every stage that scores cases uses it."""
    return ["mismatch"] if mismatch(case) else []
