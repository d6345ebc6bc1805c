"""Small servers with faults, made after public bug reports: in a folder outside the project.

P2R_TEST_INPUTS names the folder; without it these tests are skipped. The same faults are tested
with servers of the project in tests/judges, tests/engines and tests/browser.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from judge_asking import KEY, QUESTION, claude

from p2r.engines import Request, Sampling, load_engine
from p2r.judges.batches import BatchJudge
from p2r.records import Question
from p2r.runs.recipe import load_recipe

FOLDER = Path(os.environ.get("P2R_TEST_INPUTS", "no-such-folder")) / "reports"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="P2R_TEST_INPUTS names no folder of inputs"),
]


@contextmanager
def serving(script, folder, *arguments):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, FOLDER / script, str(port), *map(str, arguments)]
    child = subprocess.Popen(command, cwd=folder)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        child.kill()
        child.wait()


def check_batches(folder, monkeypatch, mode):
    """A batch that is not found once is paid once, and gives its verdicts."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("P2R_CACHE", str(folder / "cache"))
    log = folder / "batches.log"
    with serving("fake_batches.py", folder, mode, log) as port:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{port}")
        judge = BatchJudge(claude("run"), poll=0.3, grace=1)
        verdicts = judge.judge([QUESTION] * 3, ["red 1", "red 2", "red 3"])
    assert [v.sufficient for v in verdicts] == [True] * 3
    lines = log.read_text()
    assert "-> 404" in lines and lines.count("CREATE") == 1
    assert [(row.outcome, row.calls) for row in judge.ledger.summary()] == [("verdict", 3)]


def check_odd_answers(folder, monkeypatch):
    """Each odd answer of a server gives a response or a reason that names it."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    expected = [
        "A block moves right", "empty", "no choice", "reasoning_content", "A block moves right",
        "model overloaded", "A block moves right", "429", "A block moves right", "maximum context",
        "Based on the", "A block moves right", "not JSON|no choice", "refused: content filter",
        "</answer>$", "<think>hidden",
    ]  # fmt: skip
    requests = [
        Request(str(n), Question(id=str(n), problem=f"Q{n}x", problem_type="free-form"), None)
        for n in range(len(expected))
    ]
    with serving("fake_openai.py", folder) as port:
        settings = [
            f"server.base_url=http://127.0.0.1:{port}/v1", "server.model=m", "server.attempts=3",
            "server.media=images", "server.timeout=60", "server.concurrency=2",
            "generate.engine=server",
        ]  # fmt: skip
        found = {
            reasoning: {
                int(completion.key): completion
                for completion in load_engine(
                    load_recipe("tiny", [*settings, f"server.reasoning={reasoning}"]), "m"
                ).generate(asked, Sampling())
            }
            for reasoning, asked in (("false", requests), ("true", requests[3:4]))
        }
    for number, said in enumerate(expected):
        completion = found["false"][number]
        assert re.search(said, completion.error or completion.text), (number, completion)
    assert found["false"][10].truncated and found["false"][11].tokens is None
    assert found["true"][3].text == found["false"][0].text and found["true"][3].in_reasoning


def check_sub_path(folder, monkeypatch):
    """Sign-in, pages and Gradio's own settings work below the path of a proxy."""
    from browser_cases import make_run

    from p2r.browser.app import launch

    run = make_run(folder / "run")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = f"/user/jo/proxy/{port}"
    app = launch([run], password="long enough", root_path=root, port=port, block=False)
    with serving("subproxy.py", folder, port, "host") as proxy:
        address = f"http://127.0.0.1:{proxy}{root}"
        opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(), urllib.request.ProxyHandler({})
        )
        opener.open(f"{address}/login", b"username=p2r&password=long+enough")
        assert json.loads(opener.open(f"{address}/p2r/view").read())["tab"] == "start"
        config = json.loads(opener.open(f"{address}/config").read())
        assert config["root"].endswith(root)
    app.close()


CASES = {
    "retrieve404": lambda *given: check_batches(*given, "retrieve404"),
    "results404": lambda *given: check_batches(*given, "results404"),
    "odd answers": check_odd_answers,
    "sub-path": check_sub_path,
}


@pytest.mark.parametrize("case", CASES)
def test_a_server_of_the_reports(case, tmp_path, monkeypatch):
    CASES[case](tmp_path, monkeypatch)
