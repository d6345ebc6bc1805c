"""Tells which rollouts have written their observation, while they are still being sampled.

So a judge behind a server works during the rest of the sampling. vLLM samples elsewhere: there, the
judge gets each response when it is complete (`p2r.training.vllm_rollouts`).
"""

from __future__ import annotations

from typing import Any

import torch

from p2r.template import parse
from p2r.training.step import Hear


class ObservationWatch:
    """Reads the tokens of B rollouts as they are sampled.

    `hear` is called once for each rollout that closes its observation, with the rollout's row and
    its text so far. A closing tag ends with ">", so the text is decoded only after a token that
    contains this character.
    """

    def __init__(self, tokenizer: Any, rows: int, hear: Hear) -> None:
        self.tokenizer = tokenizer
        self.hear = hear
        self.ends = {token for text, token in tokenizer.get_vocab().items() if ">" in text}
        self.tokens: list[list[int]] = [[] for _ in range(rows)]
        self.open = set(range(rows))

    def see(self, ids: torch.Tensor) -> None:
        """Read the newest tokens of all rollouts, (B, n)."""
        if not self.open:
            return
        for row, new in enumerate(ids.tolist()):
            self.tokens[row] += new
            if row in self.open and self.ends.intersection(new):
                text = self.tokenizer.decode(self.tokens[row], skip_special_tokens=True)
                if parse(text).observation is not None:
                    self.open.discard(row)
                    self.hear(row, text)
