"""Requests to an OpenAI-style server, their failures, the parts of a reply, media in messages."""

from __future__ import annotations

import base64
import email.utils
import io
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2r.engines import describe_error
from p2r.errors import EngineError
from p2r.files.media import media_type
from p2r.files.safe_text import hide_keys
from p2r.template import strip_control_tokens
from p2r.video import Frames

if TYPE_CHECKING:
    from openai import AsyncOpenAI

IN_REASONING = (
    "the server returned the whole text in reasoning_content and no content: set "
    "server.reasoning=true to use this text, or start the server without its reasoning parser"
)
REFUSED_KEY = (401, 403)
RETRY = (408, 409, 429)


class Failure(Exception):
    """A request that got no answer. `again`: a retry may help, after `wait` seconds if given."""

    def __init__(self, reason: str, *, again: bool, wait: float | None = None) -> None:
        super().__init__(hide_keys(reason))
        self.again, self.wait = again, wait


async def post(client: AsyncOpenAI, payload: dict[str, Any]) -> Any:
    """Return the reply to a chat request. Raises `Failure`, or `EngineError` for a bad key."""
    from openai import APIConnectionError, APIError, APIStatusError

    try:
        return await client.post("/chat/completions", cast_to=object, body=payload)
    except APIStatusError as error:
        status = error.status_code
        if status in REFUSED_KEY:
            raise EngineError(refused(str(client.base_url), status)) from error
        again = status in RETRY or status >= 500
        pause = _retry_after(error.response.headers) if again else None
        said = " ".join(str(error.message).removeprefix(f"Error code: {status}").split())[:500]
        raise Failure(f"the server answered {status} {said}", again=again, wait=pause) from error
    except APIConnectionError as error:
        cause = error.__cause__ or error
        raise Failure(f"the connection failed: {describe_error(cause)}", again=True) from error
    except (APIError, ValueError) as error:
        raise Failure(f"the answer is not JSON: {describe_error(error)}", again=True) from error


def read_reply(reply: Any, reasoning: bool = False) -> dict[str, Any]:
    """Return the parts of a reply that engines use. Raises `Failure` if they are missing.

    `reasoning`: accept a reply whose whole text is in `reasoning_content`.
    """
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        content, refusal = _join(message.get("content")), message.get("refusal")
    except (TypeError, KeyError, IndexError, AttributeError):
        raise Failure(f"the answer has no choice in it{_said(reply)}", again=True) from None
    if refusal or choice.get("finish_reason") == "content_filter":
        raise Failure(f"the model refused: {refusal or 'content filter'}", again=False)
    if not isinstance(content or "", str):
        raise Failure("the answer is not text", again=True)
    hidden = reasoning_of(message) if not content and not choice.get("token_ids") else ""
    cut = choice.get("finish_reason") == "length"
    if hidden and not reasoning and not cut:
        raise Failure(IN_REASONING, again=False)
    if not content and not hidden and not choice.get("token_ids"):
        raise Failure("the answer is empty", again=True)
    usage = reply.get("usage")
    counts = usage.items() if isinstance(usage, dict) else ()
    return {
        "choice": choice,
        "text": strip_control_tokens(content or (hidden if reasoning else "")),
        "in_reasoning": bool(hidden),
        "prompt": reply.get("prompt_token_ids"),
        "usage": {name: count for name, count in counts if type(count) is int and count >= 0},
    }


def reasoning_of(message: Any) -> str:
    """Return the text that a server separated from the answer, "" if there is none."""
    get = message.get if isinstance(message, Mapping) else partial(getattr, message)
    fields = (get(name, None) for name in ("reasoning_content", "reasoning"))
    return next((text for text in fields if isinstance(text, str) and text.strip()), "")


def _join(content: Any) -> Any:
    """Return content that is a list of text parts as one text; other content as it is."""
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        return content
    texts = [part.get("text") for part in content]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else content


def _said(reply: Any) -> str:
    """Return the error in a reply as ": TEXT", "" if there is none."""
    error = reply.get("error") if isinstance(reply, Mapping) else None
    text = error.get("message") if isinstance(error, Mapping) else error
    return f": {' '.join(str(text).split())[:500]}" if text else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, or None. The header has a number or a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def api_key() -> str:
    """Return the key in the environment."""
    # The client needs a key even if the server does not.
    return os.environ.get("OPENAI_API_KEY") or "none"


def refused(address: str, status: int) -> str:
    """Return the error message for a refused key."""
    return f"{address} refused the key ({status}): set OPENAI_API_KEY in the environment"


def media_part(kind: str, url: str) -> dict[str, Any]:
    """Return an image or a video as a part of a message."""
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def picture(frame: np.ndarray, form: str = "PNG", **options: Any) -> str:
    """Return a frame (height, width, 3) as a picture file in base64; PNG is lossless."""
    from PIL import Image

    if form == "PNG":
        options = {"compress_level": 1}
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, form, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def file_url(path: str) -> str:
    """Return a file as a data URL."""
    kind = media_type(Path(path)) or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def introduce(frames: Frames) -> str:
    """Return the text before the pictures of a video."""
    return f"{len(frames)} frames of one video, {frames.sampled_fps:.3g} per second, in order:"
