"""Video-R1: its evaluation rule, which papers of this line use on six benchmarks.

Source: github.com/tulerfeng/Video-R1, `src/eval_bench.py`, commit 59d65c3 (2025-12-14). It runs
mvbench, tempcompass, videomme, videommmu, vsibench and mmvu with one rule per problem type.

- The answer is the text in the first <answer>…</answer>, stripped; if there is none or it is empty,
  the whole output. The reference is read from <answer> too.
- Choices: equal after strip(). Numerical: both or neither has a "." or ","; commas are deleted;
  equal after rounding to two decimals. Regression: MRA in float32, ten thresholds, `<`, the error
  divided by |reference| + 1e-8. All other types score 0.
- Failed batches are answered "error". Nothing is left out. Two micro means: "mean_acc" over all
  items that are no regression, "mean_mra" over regressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from authors_rules import Outcome


def read(output: str) -> str:
    """Return the answer in its tags, else the whole output."""
    found = re.search(r"<answer>(.*?)</answer>", output, re.DOTALL)
    return (found.group(1).strip() if found else "") or output


def score(problem_type: str, output: str, truth: str) -> Outcome:
    """Return the reward of one output; `truth` is the reference without tags."""
    said = read(output)
    if problem_type == "multiple choice":
        return Outcome(float(said.strip() == truth.strip()), said.strip())
    given, right = _number(said), _number(truth)
    if given is None or right is None:
        return Outcome(0.0)
    if problem_type == "numerical":
        marks = {any(mark in text for mark in ".,") for text in (said, truth)}
        try:
            same = len(marks) == 1 and round(given, 2) == round(right, 2)
        except (OverflowError, ValueError):
            same = False
        return Outcome(float(same), said)
    if problem_type == "regression":
        return Outcome(_mra(given, right), said)
    return Outcome(0.0)


def _mra(given: float, right: float) -> float:
    given32, right32 = np.float32(given), np.float32(right)
    with np.errstate(all="ignore"):
        error = np.abs(given32 - right32) / (np.abs(right32) + np.float32(1e-8))
        borders = np.float32(1) - (0.5 + 0.05 * np.arange(10)).astype(np.float32)
        return float((error < borders).mean())


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def summarise(items: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return "mean_acc" and, if there are regressions, "mean_mra". Items are (type, reward)."""
    rewards = list(items)
    accuracy = [value for kind, value in rewards if kind != "regression"]
    mra = [value for kind, value in rewards if kind == "regression"]
    means = {"mean_acc": sum(accuracy) / len(accuracy)} if accuracy else {}
    return means | ({"mean_mra": sum(mra) / len(mra)} if mra else {})
