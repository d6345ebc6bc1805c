"""MVBench: the rule of its authors.

Source: github.com/OpenGVLab/Ask-Anything, `video_chat2/mvbench.ipynb`, commit 4dd8210 (2026-07-17);
the notebook was last changed in 71ac7a2 (2023-12-18). `MVBENCH.md` names it as the evaluation.

- The response loses white space around it, and only its first line is kept. `return_prompt` is then
  put before it: "(" in the authors' own call, which ends the model's prompt with "Best option:(";
  "" is the function's default, for a model that was asked without that.
- Lower case; split at single spaces; the first word, without full stops, must be a part of "(b)",
  or "(b)" a part of it. So "", "(", ")" and "b)" are right as well.
- The reference's letter is that of the LAST candidate that equals the answer.
- No LLM, nothing is left out. "Avg" is the micro mean; the tasks have their own means.

`video_chat2/demo/demo_mistral_hd.ipynb` (64bb3f2, 2024-11-26) defines a later `check_ans` and calls
it on toy strings only: brackets and full stops are removed, a first word without any of a to e is
wrong, and the word must equal the letter or contain it. `score_later` has it.

Second sources DIFFER: lmms-eval 75571cf (2026-08-06) compares normalised letters and leaves empty
outputs out; VLMEvalKit e8e78f0 (2026-08-18) has `check_ans` after strip(), without the first line
only, and asks an LLM (if one is set) before it says wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from authors_rules import Outcome, ScriptFails


def right_letter(candidates: Sequence[str], answer: str) -> str:
    """Return the lower case letter of the reference; "@" if no candidate equals it, as chr(64)."""
    places = [place for place, text in enumerate(candidates) if text == answer]
    return chr(ord("A") + (places[-1] if places else -1)).lower()


def first_word(output: str, return_prompt: str = "") -> str:
    """Return the word that the script compares, in lower case."""
    return (return_prompt + output.strip().split("\n")[0]).lower().split(" ")[0]


def score(output: str, candidates: Sequence[str], answer: str, return_prompt: str = "") -> Outcome:
    """Return right or wrong by `check_ans` of mvbench.ipynb."""
    if not answer:
        raise ScriptFails("an empty reference")
    word = first_word(output, return_prompt)
    option = f"({right_letter(candidates, answer)})"
    right = word.replace(".", "") in option or option in word
    return Outcome(float(right), word)


def score_later(output: str, candidates: Sequence[str], answer: str) -> Outcome:
    """Return right or wrong by `check_ans` of demo_mistral_hd.ipynb."""
    word = first_word(output)
    for mark in ".()":
        word = word.replace(mark, "")
    letter = right_letter(candidates, answer)
    if not set(word) & set("abcde"):
        return Outcome(0.0)
    return Outcome(float(letter in word), word)


def summarise(items: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the percent right by task and "Avg", the micro mean. Items are (task, score)."""
    scores: dict[str, list[float]] = defaultdict(list)
    for task, value in items:
        scores[task].append(value)
        scores["Avg"].append(value)
    return {task: 100 * sum(values) / len(values) for task, values in scores.items()}
