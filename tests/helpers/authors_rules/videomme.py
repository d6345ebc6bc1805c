"""Video-MME: the rule of its authors.

Source: github.com/thanku-all/parse_answer, `eval_your_results.py`, commit afd52cf (2024-06-23). The
READMEs of github.com/BradyFU/Video-MME (8889f31, 2025-05-08) and its new home
MME-Benchmarks/Video-MME (06c2315, 2025-12-08) name this script.

- White space around the response is removed, then ten phrases are deleted, then the first capital
  A, B, C or D anywhere in the rest is the answer. Two lines of the phrase list lack a comma, so
  four phrases are two joined ones that never occur.
- No capital: not answered. The item is in neither count, so it is left out of every mean.
- A null response stops the script. Items marked "missing" are skipped with `skip_missing`, else
  each duration must have 300 videos. No LLM.
- Every mean is micro: right of answered, per duration and over durations.

Second source: lmms-eval 75571cf (2026-08-06) `tasks/videomme/utils.py` reads with
`extract_mcq_answer` and counts unanswered items as wrong. It DIFFERS from the authors. VLMEvalKit
uses the authors' reader, and an LLM where it fails.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from authors_rules import Outcome, ScriptFails

_DELETED = (
    *("The best answer is", "The correct answer is", "The answer is", "The answer"),
    "The best option is" + "The correct option is",
    "Best answer:" + "Best option:",
    *("Answer:", "Option:", "The correct answer", "The correct option"),
)


def read(output: str | None) -> str:
    """Return the letter, or "" for no answer."""
    if output is None:
        raise ScriptFails("a null response")
    rest = output.strip()
    for phrase in _DELETED:
        rest = rest.replace(phrase, "")
    letter = re.search("A|B|C|D", rest)
    return letter.group() if letter else ""


def score(output: str | None, answer: str) -> Outcome:
    """Return right, wrong, or None for an item that is not answered."""
    letter = read(output)
    return Outcome(float(letter == answer), letter) if letter else Outcome(None)


def summarise(items: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], float]:
    """Return percent right of answered by (axis, name); ("", "overall") is the total.

    Items have duration, domain, sub_category, task_type, output, answer. A group without an
    answered item is 0, as in the script.
    """
    right: dict[tuple[str, str], int] = defaultdict(int)
    answered: dict[tuple[str, str], int] = defaultdict(int)
    for item in items:
        outcome = score(item["output"], item["answer"])
        axes = ("duration", "domain", "sub_category", "task_type")
        for key in [("", "overall"), *((axis, item[axis]) for axis in axes)]:
            answered[key] += outcome.score is not None
            right[key] += outcome.score == 1.0
    return {key: 100 * right[key] / n if n else 0.0 for key, n in answered.items()}
