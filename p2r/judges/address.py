"""What judges on servers share: the address URL#MODEL, and the reply of a failed call."""

from __future__ import annotations

from types import ModuleType
from urllib.parse import urlsplit

from p2r.errors import JudgeError
from p2r.judges.remote import REFUSED_KEY, RemoteJudge, Reply


def read_address(text: str) -> dict[str, str]:
    """Split URL#MODEL into settings; raises ValueError if a part is missing."""
    url, _, model = text.rpartition("#")
    if not (url and model):
        raise ValueError(text)
    return {"url": url, "model": model}


def check_address(url: str, model: str) -> None:
    """Raise `JudgeError` for an address without a web URL or a model, or with a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not model:
        raise JudgeError(f"a server judge needs a URL and a model: server:URL#MODEL, not {url!r}")
    if parts.username or parts.password:
        raise JudgeError(
            "the URL of a server judge must not hold a password: set "
            f"{RemoteJudge.key_variable} instead"
        )


def failed_reply(error: Exception, client: ModuleType) -> Reply:
    """Return the reply of a call that raised. `client`: the package `anthropic` or `openai`.

    A ValueError is JSON that is cut off.
    """
    if isinstance(error, client.APIStatusError):
        reason = f"HTTP {error.status_code}: {type(error).__name__}"
        refused = error.status_code in REFUSED_KEY
        return Reply(failure=reason, charged="no", key_refused=refused)
    if isinstance(error, client.APITimeoutError):
        return Reply(failure="no answer in time: APITimeoutError", charged="maybe")
    if isinstance(error, client.APIConnectionError):
        return Reply(failure=f"no connection: {type(error).__name__}", charged="maybe")
    reason = f"malformed answer: {type(error).__name__}"
    return Reply(failure=reason, charged="maybe", broken=True)
