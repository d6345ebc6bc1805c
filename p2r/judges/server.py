"""Judges on a server of one's own or another's: OpenAI-style chat, or Anthropic-style messages.

vLLM serves both for any model (Llama, Qwen …). Only P2R_JUDGE_KEY is ever sent to such a server:
the keys of Anthropic and OpenAI stay where they belong.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from p2r.errors import JudgeError
from p2r.judges.base import BaseJudge
from p2r.judges.prices import Usage
from p2r.judges.remote import REFUSED_KEY, Limits, RemoteJudge, Reply, without_thinking

KEY = RemoteJudge.key_variable
STOPS = {"stop": "end", "length": "cut", "content_filter": "refusal"}


def make_server_judge(
    url: str, model: str, api: str = "openai", limits: Limits | None = None, **shared: Any
) -> BaseJudge:
    """The judge at `url`; `api` is "openai" or "anthropic". Raises `JudgeError`."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not model:
        raise JudgeError(f"a server judge needs a URL and a model: server:URL#MODEL, not {url!r}")
    if parts.username or parts.password:
        raise JudgeError(f"the URL of a server judge holds no password: set {KEY} instead")
    limits = limits or Limits()
    key = os.environ.get(KEY) or "none"
    if api == "anthropic":
        import anthropic

        from p2r.judges.claude import ClaudeJudge

        client = anthropic.AsyncAnthropic(
            api_key=key,
            base_url=url.rstrip("/").removesuffix("/v1"),
            max_retries=limits.retries,
            timeout=limits.timeout,
        )
        name = f"messages:{model}"
        return ClaudeJudge(model, limits, client, name=name, **shared)
    return ServerJudge(url, model, key, limits, **shared)


class ServerJudge(RemoteJudge):
    """Asks an OpenAI-style server, at temperature 0."""

    def __init__(self, url: str, model: str, key: str, limits: Limits, **shared: Any) -> None:
        import openai

        parts = urlsplit(url)
        super().__init__(f"server:{model}", model, parts.netloc, limits, **shared)
        self._errors = openai
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=url.rstrip("/") + ("" if parts.path.strip("/") else "/v1"),
            max_retries=limits.retries,
            timeout=limits.timeout,
        )

    async def _send(self, prompt: str) -> Reply:
        system = [{"role": "system", "content": self.guidance}] if self.guidance else []
        try:
            return read_completion(
                await self._client.chat.completions.create(
                    model=self.model,
                    messages=[*system, {"role": "user", "content": prompt}],
                    max_tokens=self.limits.max_tokens,
                    temperature=0.0,
                )
            )
        except self._errors.APIStatusError as error:
            reason = f"HTTP {error.status_code}: {type(error).__name__}"
            refused = error.status_code in REFUSED_KEY
            return Reply(failure=reason, charged="no", key_refused=refused)
        except self._errors.APITimeoutError:
            return Reply(failure="no answer in time: APITimeoutError", charged="maybe")
        except self._errors.APIConnectionError as error:
            return Reply(failure=f"no connection: {type(error).__name__}", charged="maybe")
        except (self._errors.OpenAIError, ValueError) as error:
            reason = f"malformed answer: {type(error).__name__}"
            return Reply(failure=reason, charged="maybe", broken=True)


def read_completion(completion: Any) -> Reply:
    """The reply in a chat completion; the client does not check what a server sends."""
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        return Reply(failure="malformed answer: no completion", charged="maybe", broken=True)
    counts = getattr(completion, "usage", None)
    usage = Usage(*(_count(counts, name) for name in ("prompt_tokens", "completion_tokens")))
    text = getattr(getattr(choices[0], "message", None), "content", None)
    text = without_thinking(text) if isinstance(text, str) else ""
    stop = getattr(choices[0], "finish_reason", None)
    stop = STOPS.get(stop, str(stop)[:40]) if stop else "end"
    if not text and stop == "end":
        return Reply(failure="empty answer", usage=usage, broken=True)
    return Reply(text, stop, usage)


def _count(usage: Any, name: str) -> int:
    value = getattr(usage, name, None)
    return value if isinstance(value, int) and value > 0 else 0
