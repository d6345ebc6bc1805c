"""The scoring rules of the benchmarks' authors, rewritten as small pure functions for tests.

One module per benchmark. Each module says where the authors' script is (repository, file, commit,
date) and does what that script does, faults included. The modules share no code with `p2r`, so a
test can compare both sides. `video_r1` holds the rule of Video-R1's evaluation, which the papers
of this line use where the authors ask an LLM.
"""

from __future__ import annotations

from typing import NamedTuple


class Outcome(NamedTuple):
    """The result of one output.

    `score` is None if the script leaves the item out of its mean. `read` is the parsed answer, None
    if no rule could parse one. `asks_llm` is True if the script would now ask an LLM; `score` is
    then the script's score without an LLM.
    """

    score: float | None
    read: str | None = None
    asks_llm: bool = False


class ScriptFails(Exception):
    """The authors' script stops with an error on this input."""
