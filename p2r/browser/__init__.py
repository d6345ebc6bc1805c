"""The case browser: its pages, its server routes and its static files."""

from importlib.util import find_spec
from urllib.request import getproxies

from p2r.files.loopback import without_proxies

# Gradio makes an HTTP client when it is imported, which fails for a SOCKS proxy without `socksio`.
if find_spec("socksio") is None and any(url.startswith("socks") for url in getproxies().values()):
    with without_proxies():
        import gradio  # noqa: F401
