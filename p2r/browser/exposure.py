"""Who can reach the case browser: checks of its host, its password and the path of a proxy.

`hide_paths` removes the folders of this machine from messages to visitors.
"""

from __future__ import annotations

import re
from pathlib import Path

from p2r.errors import UserError
from p2r.files.loopback import is_loopback

SHORTEST_PASSWORD = 8


def check_host(host: str, password: str | None, read_only: bool = False) -> None:
    """Raise `UserError` if other machines can reach the host without a good password.

    A read-only browser is public and needs no password.
    """
    if password is not None and len(password) < SHORTEST_PASSWORD:
        raise UserError(f"the password is too short: give at least {SHORTEST_PASSWORD} characters")
    if password is None and not read_only and not is_loopback(host):
        raise UserError(
            f"other machines can reach host {host}: set a password in P2R_APP_PASSWORD, "
            "add --read-only, or leave out --host to serve this machine only"
        )


def check_root_path(path: str) -> str:
    """Return the path of a reverse proxy with one slash before it and none after it.

    A full URL is also possible. Raises `UserError` for anything that is not a path.
    """
    if any(c in path for c in "?#\\ \"'<>") or ".." in path.split("/"):
        raise UserError(f"root path {path!r} is not a path: give for example /user/jo/proxy/7860")
    if path.startswith(("http://", "https://")):
        return path.rstrip("/")
    return f"/{path.strip('/')}" if path.strip("/") else ""


def hide_paths(message: str, media: Path | None) -> str:
    """Return a message without the folders of this machine, for visitors."""
    if media is not None:
        message = message.replace(str(media), media.name)
    return re.sub(r"(?<![\w:/.])/(?:[^\s/'\":]+/)+([^\s/'\":]*)", r"\1", message)
