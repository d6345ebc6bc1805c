"""The robust reading of an output: what a careful reader would say it answers.

Tags are stripped, also malformed ones. A choice may be "B", "(B)", "B. text", the text of an
option, or the last definite choice of a longer answer; a number may be written in any usual way.
What answers nothing is wrong, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from p2r.evaluation.official import Asked, Reading
from p2r.scoring import accuracy, mra
from p2r.scoring.answers import LONGEST_REMARK, extract_choice, mentions, parse_number
from p2r.scoring.conclusions import think_choice
from p2r.template import answer_of

# In a longer answer an option's own words may occur anywhere: only its end concludes.
_TAIL = 2000
_LETTERS = [f"{letter}. " for letter in "ABCDEFGHIJ"]
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_CAPTION = re.compile(r"\s*((?:Caption|Option|Sentence) (\w+)): (.*)", re.DOTALL)


def score_robust(benchmark: str, output: str, asked: Asked, rating: float | None = None) -> Reading:
    """The robust reading of an output, and its score; `rating` is an LLM's, where one was stored.

    None without a reference answer, and for a caption that no LLM has rated.
    """
    if asked.task == "captioning" or not asked.truth:
        return Reading(None, rating if rating is None or rating >= 0 else None)
    answer = answer_of(output.replace("</s>", ""))
    if asked.task == "yes_no":
        said = read_yes_no(answer)
        return Reading(said, float(said == asked.truth.lower()))
    if asked.problem_type == "multiple choice":
        if asked.task == "caption_matching":
            chosen = read_caption(answer, asked.options)
            return Reading(chosen, float(chosen == asked.truth.strip()))
        chosen = read_option(answer, asked.options)
        return Reading(chosen, None if asked.letter is None else float(chosen == asked.letter))
    if benchmark == "vsibench":
        value = parse_number(answer)
        return Reading(None if value is None else repr(value), mra(answer, asked.truth))
    return Reading(answer, accuracy(asked.problem_type, answer, asked.truth, asked.options))


def read_option(answer: str | None, options: Sequence[str]) -> str | None:
    """The letter of the option that an answer names, or concludes with."""
    if not answer:
        return None
    found = extract_choice(answer[:_TAIL] if len(answer) > 2 * _TAIL else answer, options or None)
    if found is not None:
        return found
    found = think_choice(answer[-_TAIL:], options or _LETTERS)
    short = len(answer.split()) <= LONGEST_REMARK
    return None if found and short and mentions(answer) - {found} else found


def read_yes_no(answer: str | None) -> str | None:
    """Yes or no: the first word if it is one, else the only one of both that is said."""
    said = [word.lower() for word in _YES_NO.findall(answer or "")]
    if not said:
        return None
    if (answer or "").strip(" \"'*(").lower().startswith(said[0]):
        return said[0]
    return said[0] if len(set(said)) == 1 else None


def read_caption(answer: str | None, options: Sequence[str]) -> str | None:
    """The one of several captions ("Option 2: …") that an answer names, by name, text or both."""
    matches = [_CAPTION.fullmatch(option) for option in options]
    if not answer or not all(matches):
        return None
    low = answer.lower()
    said = [i for i, m in enumerate(matches) if re.search(rf"{m[1].lower()}\b", low)]
    if not said:
        said = [i for i, m in enumerate(matches) if low.strip(" .:()\"'") == m[2].lower()]
    if not said:
        letters = dict(zip("ABCDEFGH", range(len(options)), strict=False))
        texts = [f"{x}. {m[3]}" for x, m in zip(letters, matches, strict=True)]
        chosen = read_option(answer, texts)
        said = [] if chosen is None else [letters[chosen]]
    return options[said[0]].strip() if len(said) == 1 else None
