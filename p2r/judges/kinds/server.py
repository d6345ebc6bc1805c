"""A judge on an OpenAI-style server: a hosted one, or vLLM with any model (Llama, Qwen …)."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import openai

from p2r.files.loopback import client_options
from p2r.judges.address import check_address, failed_reply, read_address
from p2r.judges.base import BaseJudge
from p2r.judges.make import JudgeMaker
from p2r.judges.pictures import pictures_of
from p2r.judges.prices import Usage, read_count
from p2r.judges.remote import Limits, RemoteJudge, Reply, without_thinking

IN_REASONING = (
    "the whole text is in reasoning_content: give the judge as a mapping with reasoning: true to "
    "read it, or start its server without a reasoning parser"
)
STOPS = {"stop": "end", "length": "cut", "content_filter": "refusal"}


class ServerJudge(RemoteJudge):
    """Asks a model on a server, at temperature 0. The server gets only the key in P2R_JUDGE_KEY.

    `reasoning`: read the text in `reasoning_content` if the server returns no other text.
    """

    form = "URL#MODEL"
    read_spec = staticmethod(read_address)

    @classmethod
    def make(
        cls, maker: JudgeMaker, url: str, model: str, api: str = "openai", **given: Any
    ) -> BaseJudge:
        """Make the judge of `model` at `url`; raises `JudgeError` for an unusable address."""
        if api == "anthropic":  # an older form of the kind `messages`
            return maker.make({"kind": "messages", "url": url, "model": model, **given})
        check_address(url, model)
        limits, shared = maker.shared(given)
        shared.pop("request")
        return cls(url, model, os.environ.get(cls.key_variable) or "none", limits, **shared)

    def __init__(
        self,
        url: str,
        model: str,
        key: str,
        limits: Limits,
        reasoning: bool = False,
        name: str | None = None,
        **shared: Any,
    ) -> None:
        parts = urlsplit(url)
        self._reasoning = reasoning
        super().__init__(name or f"server:{model}", model, parts.netloc, limits, **shared)
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=url.rstrip("/") + ("" if parts.path.strip("/") else "/v1"),
            max_retries=limits.retries,
            timeout=limits.timeout,
            **client_options(openai.DefaultAsyncHttpxClient, url),
        )

    async def _send(self, prompt: str) -> Reply:
        system = [{"role": "system", "content": self.guidance}] if self.guidance else []
        try:
            return read_completion(
                await self._client.chat.completions.create(
                    model=self.model,
                    messages=[*system, {"role": "user", "content": _content(prompt)}],
                    max_tokens=self.limits.max_tokens,
                    temperature=0.0,
                ),
                self._reasoning,
            )
        except (openai.OpenAIError, ValueError) as error:
            return failed_reply(error, openai)


def _content(prompt: str) -> str | list[dict[str, Any]]:
    """Return the content of a message: the prompt, after its pictures if it has any."""
    parts: list[dict[str, Any]] = []
    for picture in pictures_of(prompt):
        if picture.caption:
            parts.append({"type": "text", "text": picture.caption})
        url = f"data:image/jpeg;base64,{picture.base64}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return [*parts, {"type": "text", "text": str(prompt)}] if parts else prompt


def read_completion(completion: Any, reasoning: bool = False) -> Reply:
    """Read a chat completion. It checks every field, because the client does not.

    `reasoning`: see `ServerJudge`.
    """
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        return Reply(failure="malformed answer: no completion", charged="maybe", broken=True)
    counts = getattr(completion, "usage", None)
    names = ("prompt_tokens", "completion_tokens")
    usage = Usage(*(read_count(counts, name) for name in names))
    message = getattr(choices[0], "message", None)
    text = getattr(message, "content", None)
    hidden = _reasoning_of(message) if not text else ""
    text = hidden if reasoning and hidden else text
    text = without_thinking(text) if isinstance(text, str) else ""
    stop = getattr(choices[0], "finish_reason", None)
    stop = STOPS.get(stop, str(stop)[:40]) if stop else "end"
    if not text and stop == "end":
        if hidden:  # asking again would give the same
            return Reply(failure=IN_REASONING, usage=usage)
        return Reply(failure="empty answer", usage=usage, broken=True)
    return Reply(text, stop, usage)


def _reasoning_of(message: Any) -> str:
    fields = (getattr(message, name, None) for name in ("reasoning_content", "reasoning"))
    return next((text for text in fields if isinstance(text, str) and text.strip()), "")


JUDGE = ServerJudge
