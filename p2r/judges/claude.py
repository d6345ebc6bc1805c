"""Claude as the judge, and any other server of the Messages API, through the official client."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import anthropic

from p2r.errors import JudgeError
from p2r.judges.prices import Usage, find_model
from p2r.judges.remote import REFUSED_KEY, Limits, RemoteJudge, Reply, without_thinking

DEFAULT_MODEL = "claude-sonnet-5"
OFFICIAL = "api.anthropic.com"
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
# How the Messages API says that a message ended -> how `Reply` says it.
STOPS = {"end_turn": "end", "stop_sequence": "end", "max_tokens": "cut", "refusal": "refusal"}
# English takes some four characters per token; a shorter guidance than the least that the prompt
# cache takes is not marked, since marking it would do nothing.
CHARACTERS_PER_TOKEN = 4


class ClaudeJudge(RemoteJudge):
    """Asks Claude.

    The key is read by the client from ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN), the server from
    ANTHROPIC_BASE_URL; neither is stored. Rate limits, outages and dropped connections are retried
    by the client. The cost of a model without a price is unknown: its `usage` says `priced: false`.

    `request`: further fields of every request (thinking, effort), in place of the model's own
    (see `p2r.judges.prices`).
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        limits: Limits | None = None,
        client: anthropic.AsyncAnthropic | None = None,
        request: Mapping[str, Any] | None = None,
        name: str | None = None,
        **shared: Any,
    ) -> None:
        limits = limits or Limits()
        if client is None:
            if not any(os.environ.get(key) for key in KEYS):
                raise JudgeError(
                    "the judge 'claude' needs a key: set ANTHROPIC_API_KEY in the environment, "
                    "or choose another judge (filter.judge, rl.judge, eval.judge)"
                )
            client = anthropic.AsyncAnthropic(max_retries=limits.retries, timeout=limits.timeout)
            self.key_variable = KEYS[0]
        server = urlsplit(str(getattr(client, "base_url", ""))).netloc.rpartition("@")[2]
        super().__init__(
            name=name or f"claude:{model}",
            model=model,
            server="" if server == OFFICIAL else server,
            limits=limits,
            **shared,
        )
        self.client = client
        known = find_model(model)
        particular = known.request if known else {}
        self._further = dict(particular if request is None else request)

    def params(self, prompt: str) -> dict[str, Any]:
        """The request for one prompt, the same online and in a batch."""
        params: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.limits.max_tokens,
            "messages": [{"role": "user", "content": prompt}],
            **self._further,
        }
        if self.guidance:
            block: dict[str, Any] = {"type": "text", "text": self.guidance}
            if self._is_cacheable():
                block["cache_control"] = {"type": "ephemeral"}
            params["system"] = [block]
        return params

    async def count_tokens(self, prompt: str) -> int | None:
        """Tokens of a prompt as the server counts them (free); None where it cannot be asked."""
        params = {k: v for k, v in self.params(prompt).items() if k != "max_tokens"}
        try:
            return (await self.client.messages.count_tokens(**params)).input_tokens
        except (anthropic.AnthropicError, ValueError, AttributeError):
            return None

    async def _send(self, prompt: str) -> Reply:
        try:
            return read_message(await self.client.messages.create(**self.params(prompt)))
        except anthropic.APIStatusError as error:
            reason = f"HTTP {error.status_code}: {type(error).__name__}"
            refused = error.status_code in REFUSED_KEY
            return Reply(failure=reason, charged="no", key_refused=refused)
        except anthropic.APITimeoutError:
            return Reply(failure="no answer in time: APITimeoutError", charged="maybe")
        except anthropic.APIConnectionError as error:
            return Reply(failure=f"no connection: {type(error).__name__}", charged="maybe")
        except (anthropic.AnthropicError, ValueError) as error:
            # JSON that ends early is a ValueError of the client's own reading.
            reason = f"malformed answer: {type(error).__name__}"
            return Reply(failure=reason, charged="maybe", broken=True)

    def _is_cacheable(self) -> bool:
        known = find_model(self.model)
        return known is not None and (len(self.guidance) / CHARACTERS_PER_TOKEN >= known.cacheable)


def read_message(message: Any) -> Reply:
    """The reply in a message; the client does not check what a server sends, so this does."""
    blocks = getattr(message, "content", None)
    if not isinstance(blocks, list):
        return Reply(failure="malformed answer: no message", charged="maybe", broken=True)
    usage = Usage.of_message(getattr(message, "usage", None))
    said = [getattr(block, "text", None) for block in blocks if _kind(block) == "text"]
    text = without_thinking("".join(part for part in said if isinstance(part, str)))
    stop = getattr(message, "stop_reason", None)
    stop = STOPS.get(stop, str(stop)[:40]) if stop else "end"
    if not text and stop == "end":
        return Reply(failure="empty answer", usage=usage, broken=True)
    return Reply(text, stop, usage)


def _kind(block: Any) -> str | None:
    return getattr(block, "type", None)
