"""TempCompass: the rule of its authors.

Source: github.com/llyx97/TempCompass, commit e1b4631 (2025-04-04). Files `eval_multi-choice.py`,
`eval_yes_no.py`, `eval_caption_matching.py`, `eval_captioning.py` and `utils/eval_utils.py`. The
scripts were last changed in commit 3cdb5d4 (2024-06-11) or before.

- A missing prediction (null) scores 0 and counts as not matched, in all four tasks, captioning too.
- Every other prediction loses all "</s>" and then the white space around it.
- If no rule matches: with `--disable_llm` the score is 0, without it GPT-3.5 is asked for "Correct"
  or "Incorrect". Captioning has no rule: GPT-3.5 always answers a question from the caption.
- The average is the micro mean over all items of one task. `summarise` has the groups.

Second sources: lmms-eval 75571cf (2026-08-06) `tasks/tempcompass/utils.py` and VLMEvalKit e8e78f0
(2026-08-18) `dataset/utils/tempcompass.py` have the same rules but do NOT remove "</s>" or white
space. They differ from the authors there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from authors_rules import Outcome, ScriptFails

FINE_ASPECTS = (
    *("fine-grained action", "coarse-grained action", "object motion", "camera motion"),
    *("absolute speed", "relative speed", "order", "color & light change"),
    *("size & shape change", "combined change", "other change"),
)


def score(task: str, output: str | None, question: str, answer: str) -> Outcome:
    """Return the script's outcome with `--disable_llm`; captioning without an LLM is None."""
    if output is None:
        return Outcome(0.0)
    said = output.replace("</s>", "").strip()
    if task == "captioning":
        return Outcome(None, None, asks_llm=True)
    if task == "yes_no":
        rated = _yes_no(said, answer)
    elif task == "multi-choice":
        rated = _choice(said, answer)
    else:
        rated = _caption(said, question, answer)
    return Outcome(0.0, None, asks_llm=True) if rated is None else rated


def _choice(said: str, answer: str) -> Outcome | None:
    if said == answer:
        return Outcome(1.0, said)
    letter = said[:1]
    alone = len(said) == 1
    if letter in tuple("ABCD") and (alone or said[1] in ".)"):
        return Outcome(float(letter == answer[0]), letter)
    return None


def _yes_no(said: str, answer: str) -> Outcome | None:
    for word in ("yes", "no"):
        if said.lower().startswith(word):
            return Outcome(float(word == answer), word)
    return None


def _caption(said: str, question: str, answer: str) -> Outcome | None:
    lines = question.split("\n")[1:]
    parts = [line.split(": ") for line in lines]
    if any(len(part) < 2 for part in parts):
        raise ScriptFails("a caption line without ': '")
    names = [part[0] for part in parts]
    short = names
    for word in ("Sentence ", "Option ", "Caption "):
        short = [name.replace(word, "") for name in short]
    found = None  # the last match counts: lines, then sentences, then names, then bare indices
    if said in lines:
        found = said
    after = said.split(") ")[1] if ") " in said else None
    for part in parts:
        if part[1] in (said, after):
            found = part[1]
    for name in [*names, *short]:
        if name in (said, said.replace(".", "")):
            found = name
    if found is None:
        return None
    head = answer.split(": ")
    right = found in (answer, answer.split(":")[0])
    if not right:  # the script only then reads the pieces, which may be missing
        if len(head) < 2 or len(head[0].split()) < 2:
            raise ScriptFails("an answer without 'Caption X: '")
        right = found in (head[1], head[0].split()[1])
    return Outcome(float(right), found)


def read_rating(reply: str) -> float | None:
    """Return the rating in GPT-3.5's reply; None if the script asks again (10 times, then 0)."""
    correct, incorrect = "Correct" in reply, "Incorrect" in reply
    if not correct and not incorrect:
        return None
    if reply.startswith("Correct"):
        return 1.0
    if reply.startswith("Incorrect"):
        return 0.0
    return float(not incorrect)


def read_caption_reply(reply: str, answer: str) -> float:
    """Return the rating of a caption from GPT-3.5's reply; -1 for an empty or refused reply.

    The last line with "Answer" counts, else the whole reply. It is right if the text before the
    first ". " is the reference's letter and exactly one of "A.", "B.", "C.", "D." occurs.
    """
    if not reply or reply == "invalid_request_error":
        return -1.0
    lines = [line.strip() for line in reply.split("\n") if "Answer" in line]
    said = lines[-1].replace("Answer:", "").strip() if lines else reply
    marks = sum(said.count(f"{letter}.") for letter in "ABCD")
    return float(said.split(". ")[0] == answer.split(". ")[0] and marks == 1)


def fine_aspect(dimension: str, told: Mapping[str, Any] | None) -> str:
    """Return the fine-grained aspect: "order" for every item of that dimension, whatever `told`."""
    if dimension == "order":
        return "order"
    if told is None:
        raise ScriptFails("no entry in meta_info.json")
    return str(told["type"])


def summarise(items: Iterable[tuple[str, str, float, bool]]) -> dict[str, float]:
    """Return "avg", the five dimensions, the fine aspects and the match rate, in percent.

    Items are (dimension, fine aspect, rating, matched). Ratings of -1 lower the sums. The script
    rounds to one decimal and stops if a dimension or an aspect has no item; here it is left out.
    """
    total: Counter[str] = Counter()
    count: Counter[str] = Counter()
    matched = 0
    for dimension, aspect, rating, match in items:
        for name in {"avg", dimension, aspect}:  # "order" is both
            total[name] += rating
            count[name] += 1
        matched += match
    means = {name: round(100 * total[name] / count[name], 1) for name in count}
    return {**means, "match rate": round(100 * matched / count["avg"], 1)}
