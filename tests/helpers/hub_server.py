"""A small Hugging Face hub on this machine: serves a dataset with ranges, and takes uploads."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """The files of the dataset `repository`.

    `sent` lists each download as (path, range). `created` lists each request to make a repository,
    and `uploaded` has the files of all commits. `token`: the only token that may write.
    """

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repository, self.license = repository, "apache-2.0"
        self.files: dict[str, bytes] = {}
        self.stated: dict[str, str] = {}
        for name, content in files.items():
            self.add(name, content)
        self.sent: list[tuple[str, str | None]] = []
        self.longest = 2**30  # bytes of a reply; a shorter one is a broken connection
        self.token = "hf_mine"
        self.created: list[dict] = []
        self.uploaded: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}  # large files, by their digest

    def add(self, name: str, content: bytes) -> None:
        self.files[name] = content
        self.stated[name] = hashlib.sha256(content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers what `huggingface_hub` asks for a download."""

    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        api, place = f"/api/datasets/{self.server.repository}", self.server.repository
        if path.startswith(f"{api}/tree/"):
            self.reply_json([self.entry(name) for name in self.server.files])
        elif path.startswith(api):
            about = {"id": place, "sha": REVISION, "siblings": []}
            self.reply_json(about | {"cardData": {"license": self.server.license}})
        elif path.startswith(f"/datasets/{place}/resolve/"):
            self.reply_file(unquote(path.split("/resolve/")[1].partition("/")[2]))
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            name = "/".join(self.server.created[-1][key] for key in ("organization", "name"))
            self.reply_json({"url": f"http://{self.headers['Host']}/{name}"})
        elif self.path == "/api/validate-yaml":
            self.reply_json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            self.reply_json({"files": [way_of(each) for each in json.loads(body)["files"]]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            host = f"http://{self.headers['Host']}/stored/"
            for each in objects:
                each["actions"] = {"upload": {"href": f"{host}{each['oid']}"}}
            self.reply_json({"transfer": "basic", "objects": objects})
        elif "/commit/" in self.path:
            self.keep(body)
            address = f"http://{self.headers['Host']}/{self.server.repository}/commit/{REVISION}"
            self.reply_json({"commitUrl": address, "commitOid": REVISION})

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.stored[self.path.rpartition("/")[2]] = content
        self.reply_json({})

    def keep(self, body: bytes) -> None:
        """Keep the files of a commit. Large files were stored before."""
        for line in body.splitlines():
            part = json.loads(line)
            value = part["value"]
            if part["key"] == "file":
                self.server.uploaded[value["path"]] = base64.b64decode(value["content"])
            elif part["key"] == "lfsFile":
                self.server.uploaded[value["path"]] = self.server.stored[value["oid"]]

    def entry(self, name: str) -> dict:
        size, digest = len(self.server.files[name]), self.server.stated[name]
        lfs = {"oid": digest, "size": size, "pointerSize": 100}
        return {"type": "file", "path": name, "oid": digest[:40], "size": size, "lfs": lfs}

    def reply_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reply_file(self, name: str) -> None:
        content, wanted = self.server.files[name], self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        self.send_response(206 if wanted else 200)
        for header, value in {
            "X-Repo-Commit": REVISION,
            "ETag": f'"{self.server.stated[name]}"',
            "X-Linked-ETag": f'"{self.server.stated[name]}"',
            "X-Linked-Size": str(len(content)),
            "Content-Length": str(len(content) - start),
            "Accept-Ranges": "bytes",
            "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}",
        }.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.server.sent.append((name, wanted))
            self.wfile.write(content[start : start + self.server.longest])
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """Write no log."""


def way_of(file: dict) -> dict:
    """Return how a file is uploaded: weights apart, all else within the commit."""
    mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


@contextmanager
def serve_hub(repository: str, files: dict[str, bytes]) -> Iterator[Hub]:
    """Serve a dataset while the block runs."""
    hub = Hub(repository, files)
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    """Send the client of the hub to this one, with the token that may write."""
    from huggingface_hub import constants

    address = f"http://127.0.0.1:{hub.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", hub.token)
