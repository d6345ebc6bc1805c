"""Tells which rollouts have written their observation, while they are still being sampled.

So a judge behind a server works during the rest of the sampling. vLLM samples elsewhere: there, the
judge gets each response when it is complete (`p2r.training.vllm_rollouts`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from p2r.template import parse
from p2r.training.step import Hear, Step
from p2r.training.step_judge import StepJudge


def listen(step: Step, asking: StepJudge) -> None:
    """Let a judge behind a server begin with each observation while the rest is sampled."""
    if asking.listens:
        step.hear = lambda row, text: asking.hear(step.questions[row], text)


class ObservationWatch:
    """Reads the tokens of B rollouts as they are sampled.

    `hear` is called once for each rollout that closes its observation, with the rollout's row and
    its text so far. A closing tag ends with ">", so the text is decoded only after a token that
    contains this character.
    """

    def __init__(self, tokenizer: Any, rows: int, hear: Hear) -> None:
        self.tokenizer = tokenizer
        self.hear = hear
        self.special = set(tokenizer.all_special_ids)
        self.closing = closing_tokens(tokenizer) - self.special
        self.open: dict[int, list[int]] = {row: [] for row in range(rows)}  # their tokens so far

    def see(self, ids: torch.Tensor) -> None:
        """Read the newest token of each rollout, (B, 1)."""
        if not self.open:
            return
        newest = ids[:, -1].tolist()
        for row, tokens in list(self.open.items()):
            token = newest[row]
            tokens.append(token)
            if token in self.special:  # the response has ended
                del self.open[row]
            elif token in self.closing:
                text = self.tokenizer.decode(tokens, skip_special_tokens=True)
                if parse(text).observation is not None:
                    del self.open[row]
                    self.hear(row, text)


@lru_cache(maxsize=4)
def closing_tokens(tokenizer: Any) -> frozenset[int]:
    """Return the token ids whose text contains ">"."""
    return frozenset(token for text, token in tokenizer.get_vocab().items() if ">" in text)
