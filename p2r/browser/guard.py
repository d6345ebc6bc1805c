"""Refuses requests that do not come from the browser's own pages.

A site that a visitor has open can make its name point to this machine (DNS rebinding), so the Host
header must be a name under which the browser is served. A request that changes something must not
come from another site, so its Origin must be the browser's own. A read-only browser takes no
request that changes something at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from p2r.files.loopback import is_loopback

ANY_HOST = "*"
_SAFE = ("GET", "HEAD", "OPTIONS")
_SIGN_IN = ("/login", "/login/")


class Guard:
    """ASGI middleware that checks Host, Origin and method of every request.

    `hosts`: allowed names, in addition to the names of this machine; "*" allows any.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), read_only: bool = False) -> None:
        self.app = app
        self.hosts = {host.casefold() for host in hosts}
        self.read_only = read_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with the reason why it is refused."""
        if scope["type"] in ("http", "websocket"):
            headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
            refused = self._find_fault(scope, headers)
            if refused is not None:
                await PlainTextResponse(refused[1], status_code=refused[0])(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _find_fault(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self.allows(host):
            return (
                421,
                f"the browser is not served as {name_of(host)!r}: start it with --allow-host (in "
                "JupyterLab's launcher: set P2R_HOSTS before JupyterLab starts)",
            )
        if scope["type"] == "http" and scope["method"] in _SAFE:
            return None
        if self.read_only and scope.get("path", "") not in _SIGN_IN:
            return 403, "this browser is read-only"
        if not self._is_own(headers, host):
            return 403, "changes are accepted only from the page of the case browser"
        return None

    def allows(self, host: str) -> bool:
        """Return whether the browser may be served under the name of a Host header."""
        name = name_of(host)
        return ANY_HOST in self.hosts or is_loopback(name) or name in self.hosts

    def _is_own(self, headers: dict[str, str], host: str) -> bool:
        """Return whether a request comes from the browser's own pages, or from a program."""
        site = headers.get("sec-fetch-site")
        if site is not None:  # a page cannot set this header
            return site in ("same-origin", "none")
        origin = headers.get("origin")
        if origin is None:
            return True
        served = {host, headers.get("x-forwarded-host", host)}
        asked = urlsplit(origin)
        allowed = (asked.hostname or "") in self.hosts
        return asked.netloc in served or allowed


def name_of(host: str) -> str:
    """Return the name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").casefold()
    except ValueError:
        return ""
