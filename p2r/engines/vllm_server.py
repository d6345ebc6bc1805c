"""Start and stop vLLM's OpenAI-style server with the settings of a recipe (`p2r serve`).

The server runs in its own process group, so that all its subprocesses end with it: after Ctrl-C, a
failed start or an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from p2r.data import check_model, find_model
from p2r.engines.vllm_runtime import (
    check_vllm,
    command_line,
    plain_client_settings,
    text_settings,
    vllm_environment,
    vllm_settings,
)
from p2r.errors import EngineError
from p2r.files.loopback import is_loopback
from p2r.runs.recipe import Recipe

MODULE = "vllm.entrypoints.openai.api_server"
# The plugin that separates the parts of a reply; vLLM loads it by its path.
PARSER = Path(__file__).parent / "vllm_plugin" / "process_aware_parser.py"
PARSER_NAME = "process_aware"
GRACE = 15.0  # seconds that the server has to end before it is killed
_FAULT = re.compile(r"\b(\w*(?:Error|Exception)): (.+)")


class VllmServer:
    """A vLLM server for one model. A `with` block starts it, waits until it answers and stops it.

    `rollouts`: accept new weights from RL. `text_only`: any text model, such as a judge. `host`:
    the default is reachable from this machine only; any other host needs a key (VLLM_API_KEY). The
    server's output goes to `log`. `chat_template`: a file that asks plain questions in the
    process-aware template; replies then have `observation`, `reasoning` and `content`. Raises
    `EngineError`.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: str,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        log: Path,
        wait: float = 900.0,
        rollouts: bool = False,
        text_only: bool = False,
        chat_template: Path | None = None,
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        check_vllm()
        if not text_only:
            check_model(model)
        if not is_loopback(host) and not os.environ.get("VLLM_API_KEY"):
            raise EngineError(
                f"others can reach a server on {host}: set VLLM_API_KEY in its environment "
                "(and the same key as OPENAI_API_KEY for p2r), or leave out --host"
            )
        self.model = None if text_only else model
        self.host, self.port, self.log = host, port, log
        self.wait, self.on_wait = wait, on_wait
        self.name = model if text_only else recipe.server.model or model
        settings = text_settings(recipe, model) if text_only else vllm_settings(recipe, model)
        if chat_template is not None:
            settings |= plain_client_settings(recipe)
        self.arguments = [
            *("--host", host, "--port", str(port)),
            # A trainer asks for the model by its folder.
            *("--served-model-name", self.name, *({settings["model"]} - {self.name})),
            # Each request says how many frames its video has.
            *(() if text_only else ("--trust-request-mm-kwargs",)),
            *command_line(settings),
        ]
        if chat_template is not None:
            parser = ("--reasoning-parser-plugin", str(PARSER), "--reasoning-parser", PARSER_NAME)
            self.arguments += ["--chat-template", str(chat_template), *parser]
        # INFO: the log shows how far the start is.
        self.environment = vllm_environment({"VLLM_LOGGING_LEVEL": "INFO", **os.environ})
        if rollouts and recipe.vllm.weights == "nccl":
            self.arguments += ["--weight-transfer-config", '{"backend": "nccl"}']
        if rollouts:
            self.environment["VLLM_SERVER_DEV_MODE"] = "1"  # allows new weights and cache resets
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """The address for `server.base_url` of a recipe."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return at once; see `wait_until_healthy`."""
        if self.model is not None:
            find_model(self.model)
        _check_port(self.host, self.port)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", MODULE, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )

    def wait_until_healthy(self) -> None:
        """Return when the server answers.

        Raises `EngineError` if the server ends or `wait` seconds pass.
        """
        begun = time.monotonic()
        # The server is on this machine: use no proxy.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = self.base_url.removesuffix("/v1") + "/health"
        while True:
            self.check_alive()
            with contextlib.suppress(OSError), opener.open(url, timeout=5) as reply:
                if reply.status == 200:
                    return
            passed = time.monotonic() - begun
            if passed > self.wait:
                raise EngineError(
                    f"vLLM does not answer after {self.wait:g} s (raise --wait); "
                    f"its log: {self.log}"
                )
            self.on_wait(passed)
            time.sleep(0.5)

    def check_alive(self) -> None:
        """Raise `EngineError` with the last error in the log if the server has ended."""
        assert self.process is not None
        code = self.process.poll()
        if code is not None:
            raise EngineError(
                f"vLLM ended with code {code}: {_last_fault(self.log)} (its log: {self.log})"
            )

    def stop(self) -> None:
        """Stop the server and all its subprocesses, if it runs."""
        if self.process is None:
            return
        group = self.process.pid  # the server leads its group, so both have the same id
        _signal_group(group, signal.SIGTERM)
        end = time.monotonic() + GRACE
        while self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        _signal_group(group, signal.SIGKILL)
        self.process.wait()
        self.process = None


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EngineError(
                f"cannot serve on {host}:{port} ({error.strerror}): give another --port"
            ) from error


def _last_fault(log: Path) -> str:
    """Return the last error in a log, as one line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in reversed(lines):
        if found := _FAULT.search(line):
            return f"{found[1]}: {found[2]}"[:300]
    return lines[-1][:300] if lines else "the log is empty"
