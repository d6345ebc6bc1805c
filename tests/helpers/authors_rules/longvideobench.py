"""LongVideoBench: the rule of its authors, which is part of lmms-eval.

The README of github.com/longvideobench/LongVideoBench (commit fc3c553, 2024-07-24) has no scoring
script and names lmms-eval's tasks `longvideobench_val_v` and `longvideobench_val_i`. Source:
lmms-eval 0.7.3, `tasks/longvideobench/utils.py`, which says that it is the parser of the paper.

- White space around the response is removed, then eight phrases are deleted wherever they occur,
  then the first capital A, B, C, D or E anywhere in the rest is the answer.
- Without such a letter the script draws a random option. Here the outcome is wrong, and `read` is
  None.
- "Overall" weighs duration groups and question categories by their sizes; every question is in one
  of each, so it is the micro mean. No LLM.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from authors_rules import Outcome

_DELETED = (
    *("The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option is", "The correct option is", "Best answer:", "Best option:"),
)


def score(output: str, correct_choice: int) -> Outcome:
    """Return right or wrong; `correct_choice` is the place of the right option, from 0."""
    rest = output.strip()
    for phrase in _DELETED:
        rest = rest.replace(phrase, "")
    letter = next((character for character in rest if character in "ABCDE"), None)
    return Outcome(float(letter == chr(ord("A") + correct_choice)), letter)


def summarise(items: Iterable[tuple[str, str, float]]) -> dict[str, float]:
    """Return accuracies by duration group and question category, and "Overall"."""
    groups: dict[str, list[float]] = defaultdict(list)
    for duration, category, right in items:
        groups[duration].append(right)
        groups[category].append(right)
    means = {name: sum(scores) / len(scores) for name, scores in groups.items()}
    total = sum(map(len, groups.values()))
    overall = sum(means[name] * len(scores) for name, scores in groups.items()) / total
    return {**means, "Overall": overall}
