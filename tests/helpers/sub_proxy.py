"""A reverse proxy on this machine that serves another server below a path, as JupyterHub does."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP = ("transfer-encoding", "connection", "content-length")


@contextmanager
def serve_below(path: str, port: int, *, tell: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Yield the address of the proxy and the list of requests that missed the path.

    `tell`: send the public host and path to the server in `x-forwarded` headers.
    """
    missed: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def pass_on(self) -> None:
            if not self.path.startswith(path):
                if self.path != "/favicon.ico":  # browsers ask for it in any case
                    missed.append(self.path)
                self.send_response(204)
                self.end_headers()
                return
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", *_HOP)}
            headers["Host"] = self.headers["Host"] if tell else f"127.0.0.1:{port}"
            if tell:
                headers |= {"X-Forwarded-Host": self.headers["Host"], "X-Forwarded-Prefix": path}
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
            rest = self.path[len(path) :]
            rest = rest if rest.startswith("/") else f"/{rest}"
            upstream.request(self.command, rest, body, headers)
            reply = upstream.getresponse()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while piece := reply.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()
            self.close_connection = True

        do_GET = do_POST = do_HEAD = pass_on

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # pages may go away
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{path}", missed
    server.shutdown()
    server.server_close()
