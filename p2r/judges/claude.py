"""Claude as the judge, through the official client."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic

from p2r.judges import JudgeError, judge_distinct
from p2r.judges.prompt import build_judge_prompt, explanation_of, parse_judgement
from p2r.records import Question, Verdict

# US dollars per million input and output tokens (platform.claude.com, models overview).
PRICES = {
    "claude-opus-5": (5.0, 25.0),
    "claude-sonnet-5": (2.0, 10.0),
    "claude-haiku-4-5": (1.0, 5.0),
}


class ClaudeJudge:
    """Asks Claude for each distinct observation, `workers` at a time: as many as a step's rollouts.

    The key is read by the client from ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN) and is never
    stored. Rate limits and outages are retried by the client; what still fails is a verdict
    without an answer. The cost of a model that PRICES does not list is unknown: its `usage` says
    `priced: false`.
    """

    def __init__(
        self,
        model: str = "claude-sonnet-5",
        max_tokens: int = 1024,
        workers: int = 64,
        client: anthropic.Anthropic | None = None,
    ) -> None:
        if client is None and not any(
            os.environ.get(name) for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
        ):
            raise JudgeError(
                "the judge 'claude' needs a key: set ANTHROPIC_API_KEY in the environment, "
                "or choose another judge (filter.judge, rl.judge, eval.judge)"
            )
        self.name = f"claude:{model}"
        self.model = model
        self.max_tokens = max_tokens
        self.workers = workers
        self._client = client or anthropic.Anthropic(max_retries=5, timeout=120.0)

    def judge(self, questions: Sequence[Question], observations: Sequence[str]) -> list[Verdict]:
        """One verdict per observation; see `p2r.judges.Judge`."""
        return judge_distinct(self._ask_all, questions, observations)

    def _ask_all(self, questions: list[Question], observations: list[str]) -> list[Verdict]:
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(self._ask, questions, observations))

    def _ask(self, question: Question, observation: str) -> Verdict:
        prompt = build_judge_prompt(question, observation)
        try:
            message = self._client.messages.create(
                model=self.model,
                max_tokens=self.max_tokens,
                messages=[{"role": "user", "content": prompt}],
            )
        except anthropic.APIStatusError as error:
            return self._failure(f"HTTP {error.status_code}: {type(error).__name__}")
        except anthropic.APIConnectionError as error:
            return self._failure(f"no connection: {type(error).__name__}")
        reply = "".join(block.text for block in message.content if block.type == "text")
        sufficient = parse_judgement(reply)
        rationale = explanation_of(reply)
        if sufficient is None:
            rationale = f"no readable verdict (stopped by {message.stop_reason}): {rationale}"
        return Verdict(
            sufficient=sufficient, rationale=rationale, judge=self.name, **self._paid(message)
        )

    def _paid(self, message: anthropic.types.Message) -> dict[str, Any]:
        tokens = (message.usage.input_tokens, message.usage.output_tokens)
        price = PRICES.get(self.model)
        usage = {"input_tokens": tokens[0], "output_tokens": tokens[1], "priced": price is not None}
        cost = sum(n * p for n, p in zip(tokens, price or (0.0, 0.0), strict=True)) / 1e6
        return {"usage": usage, "cost": cost}

    def _failure(self, reason: str) -> Verdict:
        return Verdict(sufficient=None, rationale=reason, judge=self.name)
