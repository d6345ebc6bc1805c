"""A judge on a server of the Messages API, which vLLM serves for any model (Llama, Qwen …)."""

from __future__ import annotations

import os
from typing import Any

import anthropic

from p2r.files.loopback import client_options
from p2r.judges.address import check_address, read_address
from p2r.judges.kinds.claude import ClaudeJudge
from p2r.judges.make import JudgeMaker
from p2r.judges.remote import RemoteJudge


class MessagesJudge(ClaudeJudge):
    """Asks a model on a server. The server gets only the key in P2R_JUDGE_KEY."""

    form = "URL#MODEL"
    read_spec = staticmethod(read_address)

    @property
    def has_batches(self) -> bool:
        """False: such servers have no Message Batches."""
        return False

    @classmethod
    def make(cls, maker: JudgeMaker, url: str, model: str, **given: Any) -> MessagesJudge:
        """Make the judge of `model` at `url`; raises `JudgeError` for an unusable address."""
        check_address(url, model)
        limits, shared = maker.shared(given)
        client = anthropic.AsyncAnthropic(
            api_key=os.environ.get(RemoteJudge.key_variable) or "none",
            base_url=url.rstrip("/").removesuffix("/v1"),
            max_retries=limits.retries,
            timeout=limits.timeout,
            **client_options(anthropic.DefaultAsyncHttpxClient, url),
        )
        return cls(model, limits, client, name=f"messages:{model}", **shared)


JUDGE = MessagesJudge
