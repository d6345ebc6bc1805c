"""Claude as the judge, through the official client."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import anthropic

from p2r.errors import JudgeError
from p2r.files.loopback import client_options
from p2r.judges.address import failed_reply
from p2r.judges.make import JudgeMaker
from p2r.judges.models import features_of
from p2r.judges.pictures import pictures_of
from p2r.judges.prices import Usage
from p2r.judges.remote import Limits, RemoteJudge, Reply, without_thinking

DEFAULT_MODEL = "claude-sonnet-5"
OFFICIAL = "api.anthropic.com"
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
# Stop reasons of the Messages API -> those of `Reply`.
STOPS = {"end_turn": "end", "stop_sequence": "end", "max_tokens": "cut", "refusal": "refusal"}
# English has about four characters per token. The prompt cache ignores a guidance that is too
# short, so such a guidance is not marked for it.
CHARACTERS_PER_TOKEN = 4


class ClaudeJudge(RemoteJudge):
    """Asks Claude.

    The client reads the key from ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN) and the server from
    ANTHROPIC_BASE_URL; p2r stores neither. The client retries after rate limits, outages and
    dropped connections. If a model has no known price, its cost is unknown and the verdict's
    `usage` says `priced: false`.

    `request`: more fields for every request (thinking, effort); they replace the model's own (see
    `p2r.judges.models`).
    """

    form = "[MODEL]"

    @classmethod
    def read_spec(cls, text: str) -> dict[str, Any]:
        """Read the name of a model."""
        return {"model": text}

    @classmethod
    def make(cls, maker: JudgeMaker, model: str | None = None, **given: Any) -> ClaudeJudge:
        """Make the judge; the default model is `judging.model`."""
        limits, shared = maker.shared(given)
        return cls(model or maker.settings.model, limits, **shared)

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
            client = anthropic.AsyncAnthropic(
                max_retries=limits.retries,
                timeout=limits.timeout,
                **client_options(
                    anthropic.DefaultAsyncHttpxClient, os.environ.get("ANTHROPIC_BASE_URL", "")
                ),
            )
            self.key_variable = KEYS[0]
        server = urlsplit(str(getattr(client, "base_url", ""))).netloc.rpartition("@")[2]
        self._features = features_of(model)
        own = dict(self._features.request)
        self._more_fields = own if request is None else dict(request)
        super().__init__(
            name=name or f"claude:{model}",
            model=model,
            server="" if server == OFFICIAL else server,
            limits=limits,
            request=None if self._more_fields == own else self._more_fields,
            **shared,
        )
        self.client = client

    @property
    def has_batches(self) -> bool:
        """Whether the judge can answer by Message Batches. It cannot with frames."""
        return self.sight is None

    def params(self, prompt: str) -> dict[str, Any]:
        """Return the request for one prompt; online calls and batches use the same."""
        params: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.limits.max_tokens,
            "messages": [{"role": "user", "content": _content(prompt)}],
            **self._more_fields,
        }
        if self.guidance:
            block: dict[str, Any] = {"type": "text", "text": self.guidance}
            if len(self.guidance) / CHARACTERS_PER_TOKEN >= self._features.cacheable:
                block["cache_control"] = {"type": "ephemeral"}
            params["system"] = [block]
        return params

    async def count_tokens(self, prompt: str) -> int | None:
        """Return the tokens of a prompt, counted by the server for free; None if it cannot."""
        params = {k: v for k, v in self.params(prompt).items() if k != "max_tokens"}
        try:
            return (await self.client.messages.count_tokens(**params)).input_tokens
        except (anthropic.AnthropicError, ValueError, AttributeError):
            return None

    async def _send(self, prompt: str) -> Reply:
        try:
            return read_message(await self.client.messages.create(**self.params(prompt)))
        except (anthropic.AnthropicError, ValueError) as error:
            return failed_reply(error, anthropic)


def _content(prompt: str) -> str | list[dict[str, Any]]:
    """Return the content of a message: the prompt, after its pictures if it has any."""
    blocks: list[dict[str, Any]] = []
    for picture in pictures_of(prompt):
        if picture.caption:
            blocks.append({"type": "text", "text": picture.caption})
        source = {"type": "base64", "media_type": "image/jpeg", "data": picture.base64}
        blocks.append({"type": "image", "source": source})
    return [*blocks, {"type": "text", "text": str(prompt)}] if blocks else prompt


def read_message(message: Any) -> Reply:
    """Read a message. It checks every field, because the client does not."""
    blocks = getattr(message, "content", None)
    if not isinstance(blocks, list):
        return Reply(failure="malformed answer: no message", charged="maybe", broken=True)
    usage = Usage.of_message(getattr(message, "usage", None))
    said = [getattr(b, "text", None) for b in blocks if getattr(b, "type", None) == "text"]
    text = without_thinking("".join(part for part in said if isinstance(part, str)))
    stop = getattr(message, "stop_reason", None)
    stop = STOPS.get(stop, str(stop)[:40]) if stop else "end"
    if not text and stop == "end":
        return Reply(failure="empty answer", usage=usage, broken=True)
    return Reply(text, stop, usage)


JUDGE = ClaudeJudge
