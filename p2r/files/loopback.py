"""Connections to this machine, which must not go through a proxy of the environment."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from p2r.errors import UserError

# An HTTP client ignores all proxies if this variable is "*".
_NO_PROXY = ("no_proxy", "NO_PROXY")


def is_loopback(host: str) -> bool:
    """Return whether a host name or an address is this machine's own."""
    if host.casefold().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_local_url(url: str) -> bool:
    """Return whether a URL is on this machine."""
    host = urlsplit(url).hostname or ""
    return host in ("0.0.0.0", "::") or is_loopback(host)


def client_options(client: type, url: str) -> dict[str, Any]:
    """Return the options that keep an API client for a local URL away from proxies.

    `client` is the library's HTTP client, for example `openai.DefaultAsyncHttpxClient`. Other
    clients use the proxies of the environment. Raises `UserError` for a proxy that needs a missing
    package (SOCKS).
    """
    try:
        if is_local_url(url):
            with without_proxies():  # the clients of anthropic read the variables in any case
                return {"http_client": client(trust_env=False)}
        return {"http_client": client()}
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"no connection to {url}: {reason} Or unset the proxy variables of the environment"
        ) from error


@contextmanager
def without_proxies() -> Iterator[None]:
    """Ignore the proxies of the environment inside the block, in this OS process."""
    kept = {name: os.environ.get(name) for name in _NO_PROXY}
    os.environ.update(dict.fromkeys(_NO_PROXY, "*"))
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
