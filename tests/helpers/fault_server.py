"""A loopback server in OpenAI's style that fails in the ways asked for."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "some/model"


class FaultServer(ThreadingHTTPServer):
    """Answers "fine" to a question, after as many faults as its plan holds.

    `plans`: words of a question → faults, one per attempt, "fine" after them. `asked` counts the
    attempts of each plan, `at_once` is the most requests that were open together.
    """

    daemon_threads = True
    request_queue_size = 128  # of connections that wait: five are refused on a busy machine

    def __init__(self, plans: dict[str, list[str]], models: list[str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plans, self.models = plans, [MODEL] if models is None else models
        self.asked: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {}
        self.bodies: list[dict] = []
        self.keys: list[str] = []
        self.open = self.at_once = 0
        self.lock = threading.Lock()
        self.released = threading.Event()  # ends slow answers

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def __enter__(self) -> FaultServer:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_) -> None:
        """A client that went away is what some tests want."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["authorization"])
        if self.server.models == ["refused"]:
            return self.reply(401, {"error": {"message": "no such key"}})
        self.reply(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["messages"][0]["content"][-1]["text"]
        name = next(name for name in server.plans if name in text)
        with server.lock:
            attempt = server.asked[name]
            server.asked[name] += 1
            server.times.setdefault(name, []).append(time.monotonic())
            server.bodies.append(body)
            server.open += 1
            server.at_once = max(server.at_once, server.open)
        try:
            plan = server.plans[name]
            getattr(self, plan[attempt] if attempt < len(plan) else "fine")()
        finally:
            with server.lock:
                server.open -= 1

    def reply(self, status: int, body, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def answer(self, message: dict, reason: str = "stop", **more) -> None:
        choice = {"index": 0, "message": message, "finish_reason": reason, **more}
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        self.reply(200, {"choices": [choice], "usage": usage})

    def fine(self) -> None:
        time.sleep(0.02)  # so that requests lie side by side
        self.answer({"role": "assistant", "content": "fine"})

    def cut(self) -> None:
        self.answer({"role": "assistant", "content": "fine so f"}, "length")

    def odd_counts(self) -> None:
        choice = {"index": 0, "message": {"content": "fine"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": "seven", "completion_tokens": -1}
        self.reply(200, {"choices": [choice], "usage": usage})

    def limited(self) -> None:
        self.reply(429, {"error": {"message": "slow down"}}, retry_after="0.3")

    def limited_long(self) -> None:
        self.reply(429, {"error": {"message": "tomorrow"}}, retry_after="3600")

    def broken(self) -> None:
        self.reply(500, {"error": {"message": "it broke"}}, retry_after="0")

    def busy(self) -> None:
        self.reply(503, b"<html>busy</html>", retry_after="0")

    def wrong(self) -> None:
        key = self.headers["authorization"]  # some servers repeat the request in their errors
        self.reply(400, {"error": {"message": f"prompt too long ({key})"}})

    def refused_key(self) -> None:
        self.reply(401, {"error": {"message": "no such key"}})

    def dropped(self) -> None:
        self.close_connection = True
        self.connection.close()

    def torn(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b'{"choices": [')
        self.close_connection = True

    def malformed(self) -> None:
        self.reply(200, b'{"choices": [{"mess')

    def nothing(self) -> None:
        self.reply(200, {"choices": []})

    def empty(self) -> None:
        self.answer({"role": "assistant", "content": ""})

    def odd(self) -> None:
        self.reply(200, {"choices": "none today"})

    def no_object(self) -> None:
        self.reply(200, ["x"])

    def refusal(self) -> None:
        self.answer({"role": "assistant", "content": None, "refusal": "I would rather not"})

    def filtered(self) -> None:
        self.answer({"role": "assistant", "content": None}, "content_filter")

    def reasoned(self) -> None:
        self.answer({"content": None, "reasoning_content": "fine thought"})

    def reasoned_newly(self) -> None:  # the name of the field in newer servers
        self.answer({"content": "", "reasoning": "fine thought"})

    def reasoned_cut(self) -> None:
        self.answer({"content": None, "reasoning_content": "fine tho"}, "length")

    def reasoned_too(self) -> None:
        self.answer({"content": "fine", "reasoning_content": "thought"})

    def parts(self) -> None:
        self.answer({"content": [{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]})

    def ended(self) -> None:
        self.answer({"content": "<|begin_of_box|>fine<|end_of_box|><|im_end|>\n"})

    def overloaded(self) -> None:
        self.reply(200, {"error": {"message": "model overloaded", "code": 503}})

    def slow(self) -> None:
        self.server.released.wait(60)
        self.close_connection = True
