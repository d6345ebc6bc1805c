"""The address of a model on a server: URL#MODEL."""

from __future__ import annotations

from urllib.parse import urlsplit

from p2r.errors import JudgeError
from p2r.judges.remote import RemoteJudge


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
