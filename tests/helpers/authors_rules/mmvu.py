"""MMVU: the rule of its authors, which is an LLM's verdict.

Source: github.com/yale-nlp/MMVU, `acc_evaluation.py` and `utils/eval_utils.py`, commit 4d54223
(2025-02-27). The scripts were last changed in f5bc479 (2025-02-01).

- There is NO rule for text. GPT-4o gets question, options, reference and response and returns
  {"extracted_answer": str, "correct": bool}, for choices and for open answers. `correct` counts;
  the extracted answer is stored and never compared.
- A failed request, or a reply that cannot be parsed, is "" and False: wrong, and in the mean.
- The accuracy is micro over all items of the file. The script prints no other groups.
- The script's result files hold id, question, choices, response, ground_truth_answer,
  extracted_answer, correct.

Second source: lmms-eval 75571cf (2026-08-06) `tasks/mmvu/utils.py` has a rule for choices without
an LLM: `score_lmms_eval`. It is lenient: several letters or a word of the right option suffice. The
papers of this line compare by exact match: see `video_r1`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping
from typing import Any

from authors_rules import Outcome


def score(verdict: Mapping[str, Any] | None) -> Outcome:
    """Return the outcome of GPT-4o's verdict; None stands for a failed request."""
    if verdict is None or not {"extracted_answer", "correct"} <= verdict.keys():
        return Outcome(0.0, None, asks_llm=True)
    return Outcome(float(verdict["correct"]), verdict["extracted_answer"] or None, asks_llm=True)


def summarise(outcomes: Iterable[Outcome]) -> float:
    """Return the accuracy over all items."""
    scores = [outcome.score or 0.0 for outcome in outcomes]
    return sum(scores) / len(scores)


def score_lmms_eval(output: str, choices: Mapping[str, str], answer: str) -> Outcome:
    """Return right or wrong by lmms-eval's rule for choices."""
    said, low = output.strip(), output.strip().lower()
    answer = answer.strip()
    letter = re.search(r"\b([A-E])\b", said, re.IGNORECASE)
    right = bool(letter) and letter.group(1).upper() == answer.upper()
    right = right or bool(re.search(rf"\b{re.escape(answer)}\b", said, re.IGNORECASE))
    if not right and answer in choices:
        text = choices[answer].strip().lower()
        words = [word.strip(string.punctuation) for word in text.split()]
        near = answer.lower() in low and any(len(word) > 2 and word in low for word in words)
        right = text in low or near
    return Outcome(float(right), letter.group(1).upper() if letter else None)
