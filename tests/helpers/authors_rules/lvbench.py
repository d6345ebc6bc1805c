"""LVBench: the rule of its authors.

Source: github.com/zai-org/LVBench (formerly THUDM/LVBench), `lvbench/utils/answer_util.py`
(`polish_answer`, commit 1dd4612) and `lvbench/metrics/compute_accuracy.py` (commit dd7d99d).

- `polish_answer`: white space around the answer is removed, the text before the first ")" is kept
  and stripped, then the text after its first "(" and before the next, stripped. Of its part before
  the first space, the first character is the answer ("" if there is none).
- The character must equal the reference. Case counts.
- Questions without an answer in the file are not counted. Overall: micro. A question counts for
  each of its types. No LLM.

Second source: lmms-eval 75571cf (2026-08-06) reads with `extract_mcq_answer`. It DIFFERS.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from authors_rules import Outcome


def polish(answer: str) -> str:
    """Return the character that the script reads."""
    head = re.match(r"[^)]*", answer.strip())[0].strip()
    pieces = head.split("(")
    chosen = pieces[1].strip() if len(pieces) > 1 else head
    return chosen.partition(" ")[0][:1]


def score(output: str, answer: str) -> Outcome:
    """Return right or wrong."""
    letter = polish(output)
    return Outcome(float(letter == answer), letter or None)


def summarise(items: Iterable[tuple[Sequence[str], float]]) -> dict[str, float]:
    """Return the share of right answers per question type, and "acc" over all."""
    right, total = Counter(), Counter()
    for kinds, scored in items:
        for kind in (*kinds, "acc"):
            total[kind] += 1
            right[kind] += scored
    return {kind: right[kind] / total[kind] for kind in total}
