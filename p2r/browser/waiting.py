"""Serves a "starting" page on the browser's port until the case browser is ready.

Importing the libraries and opening a large run take many seconds. The page lists the steps that are
done and reloads itself every second.
"""

from __future__ import annotations

import contextlib
import html
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta http-equiv="refresh" content="1"><title>starting · p2r</title>
<style>body {{ font: 1.25rem/1.5 system-ui, sans-serif; display: grid; place-content: center;
min-height: 90vh; color: #17202e; background: #f5f7f9; }} @media (prefers-color-scheme: dark) {{
body {{ color: #e6ebf2; background: #0e131b; }} }} li {{ opacity: .7; }} li:last-child {{
opacity: 1; font-weight: 600; }}</style>
<main><h1>The case browser is starting</h1><ol>{steps}</ol><p>This page reloads itself.</p></main>
"""


def free_port(first: int = 7860) -> int:
    """Return the first free port of this machine from a number on."""
    for port in range(first, first + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port from {first} to {first + 99} is free: give a --port")


class Waiting:
    """The steps of a start. With a port, they are shown on a page as well."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self._began = time.monotonic()

    def say(self, step: str) -> None:
        """Tell what is done now."""
        self.steps.append(step)
        print(f"[{time.monotonic() - self._began:5.1f} s] {step}", file=sys.stderr, flush=True)

    def page(self) -> bytes:
        """Return the page with the steps so far."""
        steps = "".join(f"<li>{html.escape(step)} …</li>" for step in self.steps)
        return _PAGE.format(steps=steps).encode()


@contextlib.contextmanager
def wait_on(host: str, port: int | None) -> Iterator[Waiting]:
    """Answer on an address while the block runs; without a port, only print the steps.

    Status 503: programs know that they have to ask again.
    """
    waiting = Waiting()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = waiting.page()
            self.send_response(503)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            pass

    server = None
    if port is not None:
        # A port that cannot be served is reported later, by the browser itself.
        with contextlib.suppress(OSError):
            server = _Server((host.strip("[]"), port), Handler)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield waiting
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        # The socket is made with this family.
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, *_: object) -> None:
        """Ignore a visitor who closes the page."""
