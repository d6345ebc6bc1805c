"""Where the browser is served: behind the proxies of JupyterHub and Colab, in a Space.

On JupyterHub and Colab, the notebook's server is not the reader's machine, so 127.0.0.1 does not
lead to it: readers go through a proxy. A Hugging Face Space has a public name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from gradio.utils import colab_check
from markupsafe import Markup

from p2r.browser.guard import ANY_HOST

_HUB = "JUPYTERHUB_SERVICE_PREFIX"
_FRAME = Markup(
    '<iframe src="{}" width="100%" height="900" style="border:0" title="p2r case browser" '
    'allow="clipboard-read; clipboard-write; fullscreen"></iframe>'
)


def hub_path(port: int) -> str:
    """Return the path below which JupyterHub's proxy serves a port; "" outside of JupyterHub."""
    prefix = os.environ.get(_HUB, "")
    return f"{prefix.rstrip('/')}/proxy/{port}" if prefix else ""


def allowed_hosts(root_path: str, more: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the host names under which the browser may be served, besides this machine's.

    On a hub, in Colab and in a Space, the browser does not run on a visitor's own machine. So
    DNS rebinding to that machine does not reach it, and any name is safe.
    """
    named = urlsplit(root_path).hostname
    remote = bool(os.environ.get(_HUB) or os.environ.get("SPACE_ID")) or colab_check()
    return (*more, *([named] if named else []), *([ANY_HOST] if remote else []))


def show_in_cell(path: str) -> None:
    """Show the browser in the output of a notebook's cell, through the proxy of the hub."""
    from IPython.display import HTML, display

    display(HTML(_FRAME.format(f"{path}/")))
