"""Whether this OS process belongs to p2r alone, so that p2r may end it; workers that end in time.

The command line does. A notebook kernel, a script or a server that uses p2r as a library does not.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

_own = False


def claim_process() -> None:
    """Note that this OS process is a command of p2r; its forked children are too."""
    global _own
    _own = True


def is_own_process() -> bool:
    """Return whether p2r may end this OS process."""
    return _own


def end_with_parent() -> None:
    """End this worker, which `multiprocessing` started, as soon as its parent ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    watch = threading.Thread(target=lambda: wait([parent.sentinel]) and os._exit(1), daemon=True)
    watch.start()
