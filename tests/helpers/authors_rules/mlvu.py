"""MLVU: the rule of its authors for the multiple-choice tasks of the dev set.

Source: github.com/JUNJIE99/MLVU, `evaluation/multiple_choice_evaluation/choice_bench.py`, commit
fd060c1 (2025-08-21); the file was last changed in 4bcc3c0 (2024-06-19).

- The reference is "(B) text", with the letter of the LAST candidate that equals the answer. If none
  does, the letter is "@", and no answer can be right.
- If the prediction has a ")", only the character before the first one counts ("" for a ")" at the
  start). Otherwise the whole prediction counts. It must equal the letter. No white space is
  removed, no case changed.
- No LLM, nothing is left out. "Avg" is the mean over tasks (M-Avg).

Second source: lmms-eval 75571cf (2026-08-06) reads with `extract_mcq_answer`. It DIFFERS. The test
set is scored by a web service that is not public.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from authors_rules import Outcome


def reference(candidates: Sequence[str], answer: str) -> str:
    """Return the reference as the script writes it."""
    place = -1
    for index, candidate in enumerate(candidates):
        if candidate == answer:
            place = index
    return f"({chr(ord('A') + place)}) {answer}"


def score(output: str, candidates: Sequence[str], answer: str) -> Outcome:
    """Return right or wrong by `check_ans`."""
    right = reference(candidates, answer)
    option = right[right.index("(") + 1 : right.index(")")]
    said = output
    if ")" in said:
        place = said.index(")")
        said = said[place - 1 : place]
    return Outcome(float(said == option), said)


def summarise(items: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return percent right per task, and "Avg" over tasks."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for task, right in items:
        counts[task][0] += right
        counts[task][1] += 1
    found = {task: right / total * 100 for task, (right, total) in counts.items()}
    return {**found, "Avg": sum(found.values()) / len(found)}
