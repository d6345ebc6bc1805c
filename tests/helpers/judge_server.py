"""A local server with the Messages, Message Batches and chat protocols, and with faults.

An observation is sufficient if it contains "red". `reply_to` has the replies to a reader. The
observation also selects faults: `fault: NAME` applies to every request for it, `fault: NAME x2` to
the first two requests.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

READ = ("observation", "reasoning", "model_answer", "description")
USAGE = {"input_tokens": 1000, "output_tokens": 100}
CUT = b'{"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "te'


class JudgeServer(ThreadingHTTPServer):
    """The server; it counts requests (`asked`) and verdicts (`answered`) by observation."""

    daemon_threads = True
    request_queue_size = 128  # waiting connections; the default of 5 is too small on a busy machine
    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.in_flight = self.most_in_flight = 0
        self.delay = 0.0
        self.batches: dict[str, dict[str, Any]] = {}
        # Batches: the number of polls with "in progress", and the faults of the next creations. A
        # word in the observation says how its request ends.
        self.progress = 0
        self.creations: list[str] = []
        # How often a batch is not found: "retrieve", "retrieve NAME", "results", "no results_url",
        # "cut results", "fewer results". `listed`: whether the list shows the batches.
        self.missing: dict[str, int] = {}
        self.listed = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Ignore clients that hang up: the tests do this on purpose."""


class Handler(BaseHTTPRequestHandler):
    server: JudgeServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.keys |= {
                self.headers.get("x-api-key") or "",
                (self.headers.get("authorization") or "").removeprefix("Bearer "),
            } - {""}
        if self.path == "/v1/messages/batches":
            return self.create_batch(body)
        if self.path == "/v1/messages/count_tokens":
            return self.send(200, {"input_tokens": len(json.dumps(body["messages"])) // 4})
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        try:
            self.judge(body)
        finally:
            with self.server.lock:
                self.server.in_flight -= 1

    def judge(self, body: dict[str, Any]) -> None:
        observation = observation_in(body)
        with self.server.lock:
            self.server.asked[observation] += 1
            number = self.server.asked[observation]
        time.sleep(self.server.delay)
        fault = re.search(r"fault: (\S+)(?: x(\d+))?", observation)
        if fault and (fault[2] is None or number <= int(fault[2])):
            return self.fail(fault[1], body)
        with self.server.lock:
            self.server.answered[observation] += 1
        return self.send(200, answer(body, self.path, reply_to(body)))

    def fail(self, fault: str, body: dict[str, Any]) -> None:
        if fault.isdigit():
            headers = {"retry-after": "0.05"} if fault in ("429", "503") else {}
            error = {"type": "error", "error": {"type": "fault", "message": "no"}}
            return self.send(int(fault), error, headers)
        if fault == "forever":  # rate limited, and told to come back tomorrow
            return self.send(429, {"type": "error"}, {"retry-after": "86400"})
        if fault == "dropped":
            return self.hang_up()
        if fault == "half":  # a connection that breaks within the body
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "5000")
            self.end_headers()
            self.wfile.write(CUT)
            self.wfile.flush()
            return self.hang_up()
        if fault == "slow":
            time.sleep(5)
            return self.hang_up()
        if fault == "drip":  # alive, one byte at a time
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", "5000")
            self.end_headers()
            for _ in range(200):
                try:
                    self.wfile.write(b" ")
                    self.wfile.flush()
                except OSError:
                    return None
                time.sleep(0.05)
            return None
        if fault == "cutjson":
            return self.send_bytes(200, CUT)
        if fault == "html":
            return self.send_bytes(200, b"<html>gateway</html>", {"content-type": "text/html"})
        if fault == "list":
            return self.send(200, [1, 2])
        if fault == "nothing":
            return self.send_bytes(200, b"")
        texts = {
            "empty": ("", "end_turn"),
            "mumble": ("Hm.", "end_turn"),
            "refusal": ("<judgement>Yes</judgement>", "refusal"),
            "cutoff": ("So <judgement>Yes</judgement>", "max_tokens"),
            "both": ("<judgement>Yes</judgement> or <judgement>No</judgement>", "end_turn"),
        }
        text, stop = texts[fault]
        return self.send(200, answer(body, self.path, text, stop))

    # ---- batches

    def create_batch(self, body: dict[str, Any]) -> None:
        server = self.server
        with server.lock:
            fault = server.creations.pop(0) if server.creations else ""
            if fault.isdigit():
                return self.send(int(fault), {"type": "error"}, {"retry-after": "0.01"})
            if fault == "dropped":
                return self.hang_up()
            number = len(server.batches) + 1
            for request in body["requests"]:
                server.asked[observation_in(request["params"])] += 1
            server.batches[f"batch_{number}"] = {
                "requests": body["requests"],
                "left": server.progress,
                "made": datetime.now(UTC),
            }
        if fault == "unheard":  # received, but the client never learns
            return self.hang_up()
        return self.send(200, self.describe(f"batch_{number}"))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        parts = path.split("/")
        if path == "/v1/messages/batches":
            names = list(self.server.batches) if self.server.listed else []
            listed = [self.describe(name) for name in reversed(names)]
            return self.send(200, {"data": listed, "has_more": False})
        if parts[4] not in self.server.batches:
            return self.send(404, {"type": "error"})
        if path.endswith("/results"):
            if self.is_missing("results"):
                return self.send(404, {"type": "error"})
            lines = [json.dumps(line) for line in self.results(parts[4])]
            if self.is_missing("fewer results"):
                lines = lines[:-1]
            data = "\n".join(lines).encode()
            headers = {"content-type": "application/x-jsonl"}
            if self.is_missing("cut results"):
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 3])
                self.wfile.flush()
                return self.hang_up()
            return self.send_bytes(200, data, headers)
        if self.is_missing("retrieve") or self.is_missing(f"retrieve {parts[4]}"):
            return self.send(404, {"type": "error"})
        with self.server.lock:
            self.server.batches[parts[4]]["left"] -= 1
        described = self.describe(parts[4])
        if described["processing_status"] == "ended" and self.is_missing("no results_url"):
            described["results_url"] = None
        return self.send(200, described)

    def is_missing(self, what: str) -> bool:
        """Return whether this request meets a fault of `missing`, and count it."""
        with self.server.lock:
            found = self.server.missing.get(what, 0) > 0
            if found:
                self.server.missing[what] -= 1
        return found

    def describe(self, name: str) -> dict[str, Any]:
        batch = self.server.batches[name]
        ended = batch["left"] < 0
        ends = [line["result"]["type"] for line in self.results(name)] if ended else []
        counts = {
            kind: ends.count(kind) for kind in ("succeeded", "errored", "canceled", "expired")
        }
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "created_at": batch["made"].isoformat(),
            "expires_at": (batch["made"] + timedelta(days=1)).isoformat(),
            "request_counts": {
                **counts, "processing": 0 if ended else len(batch["requests"])
            },
            "results_url": f"{self.server.url}/v1/messages/batches/{name}/results",
        }  # fmt: skip

    def results(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the results in reverse order; a request ends as its observation says."""
        earlier = [n for n in self.server.batches if int(n[6:]) < int(name[6:])]
        for request in reversed(self.server.batches[name]["requests"]):
            observation = observation_in(request["params"])
            seen = sum(
                observation_in(r["params"]) == observation
                for n in earlier
                for r in self.server.batches[n]["requests"]
            )
            end = re.search(r"ends: (\S+)(?: x(\d+))?", observation)
            kind = end[1] if end and (end[2] is None or seen < int(end[2])) else "succeeded"
            result: dict[str, Any] = {"type": kind}
            if kind == "missing":
                continue
            if kind == "succeeded":
                text = "Hm." if "mumble" in observation else word_on(observation)
                result["message"] = answer(request["params"], "/v1/messages", text)
            elif kind not in ("expired", "canceled"):
                error = {"type": kind, "message": "no"}
                result = {"type": "errored", "error": {"type": "error", "error": error}}
            yield {"custom_id": request["custom_id"], "result": result}

    # ---- sending

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self.send_bytes(status, json.dumps(body).encode(), headers)

    def send_bytes(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"content-type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def text_in(body: dict[str, Any]) -> str:
    """Return the prompt; pictures may be before it."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def observation_in(body: dict[str, Any]) -> str:
    prompt = text_in(body)
    tag = next(tag for tag in READ if f"<{tag}>" in prompt)
    return prompt.split(f"<{tag}>")[1].split(f"</{tag}>")[0].strip()


def reply_to(body: dict[str, Any]) -> str:
    """Return a verdict, or a reader's reply: the last word, a rating, an option."""
    prompt, observation = text_in(body), observation_in(body)
    if "<reasoning>" in prompt:
        return f"<choice>{observation.split()[-1]}</choice>"
    if "<model_answer>" in prompt:
        return "Correct" if "red" in observation else "Incorrect"
    if "<description>" in prompt:
        return "A" if "red" in observation else "None"
    return word_on(observation)


def word_on(observation: str) -> str:
    return f"Why. <judgement>{'Yes' if 'red' in observation else 'No'}</judgement>"


def answer(body: dict[str, Any], path: str, text: str, stop: str = "end_turn") -> dict[str, Any]:
    if path.endswith("/chat/completions"):
        stops = {"end_turn": "stop", "max_tokens": "length", "refusal": "content_filter"}
        return {
            "id": "c1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{
                "index": 0, "finish_reason": stops[stop],
                "message": {"role": "assistant", "content": text},
            }],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        }  # fmt: skip
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": text}] if text else [],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
    }


@contextmanager
def serve_judge(port: int = 0) -> Iterator[JudgeServer]:
    server = JudgeServer(port)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with serve_judge() as shown:
        print(shown.url, flush=True)
        threading.Event().wait()
