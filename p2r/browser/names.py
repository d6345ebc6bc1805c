"""The names of annotators: two people with one name must not count as one.

Each browser has a random key. The first browser that labels under a name owns the name. Another
browser has to confirm that it is the same person, or choose another name. The file
`annotators.json` beside the labels holds a hash of the keys, so that the keys stay secret.
"""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

from p2r.errors import UserError
from p2r.files.atomic import write_json

NAMES = "annotators.json"


class NameFile:
    """The names of the annotators of a run, each with the browsers that use it."""

    def __init__(self, run: Path) -> None:
        self.path = run / NAMES
        self._lock = threading.Lock()

    def claim(self, name: str, key: str, is_used: bool, is_me: bool = False) -> None:
        """Let the browser with this key label under a name.

        `is_used`: the name has labels already. `is_me`: the visitor confirms to be the person of
        that name. Raises `UserError` if another browser uses the name, and `OSError` if the file
        cannot be written.
        """
        if not key:  # a program, which has no browser's key
            return
        digest = hashlib.sha256(f"{name}\n{key}".encode("utf-8", "replace")).hexdigest()
        with self._lock:
            names = self._read()
            known = names.setdefault(name, [])
            if digest in known:
                return
            if (known or is_used) and not is_me:
                raise UserError(
                    f"another browser labels as {name!r}: choose another name, or confirm that you "
                    "are the same person"
                )
            known.append(digest)
            write_json(self.path, names)

    def _read(self) -> dict[str, list[str]]:
        try:
            names = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return names if isinstance(names, dict) else {}
