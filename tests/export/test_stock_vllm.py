"""An exported model in vLLM without p2r: `vllm serve FOLDER`, as a user of the folder starts it.

`tests/helpers/stock_vllm` hides p2r from the server and all its subprocesses.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from p2r import data
from p2r.data import encode_prompts, load_processor
from p2r.export.model import export_model
from p2r.records import Question
from p2r.runs import open_run
from p2r.video import sample_frames

pytest_plugins = ["small_fixtures"]
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]
HIDING = Path(__file__).parents[1] / "helpers" / "stock_vllm"
PROBLEM = "How many objects are there?"


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The teacher, exported as the model of a run."""
    folder = tmp_path_factory.mktemp("exported")
    run = open_run(folder / "run", "tiny1", ["models.base=playground/teacher"]).folder
    (run / "pa_grpo").mkdir()
    (run / "pa_grpo" / "model").symlink_to(data.resolve_model("playground/teacher"))
    return export_model(run / "pa_grpo", folder / "my-model")


@pytest.fixture(scope="module")
def address(exported):
    """The address of `vllm serve my-model` with the reasoning parser of the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(sys.executable).parent / "vllm"), "serve", "my-model"]
    command += ["--reasoning-parser-plugin", "my-model/process_aware_parser.py"]
    command += ["--reasoning-parser", "process_aware", "--port", str(port)]
    command += ["--media-io-kwargs", '{"video": {"num_frames": 16}}', "--enforce-eager"]
    settings = {"PYTHONPATH": str(HIDING), "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    settings |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    settings |= {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    log = exported.parent / "log"
    with log.open("w") as writing:
        process = subprocess.Popen(
            command,
            cwd=exported.parent,
            env={**os.environ, **settings},
            stdout=writing,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 600
        while "Application startup complete" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(address: str, clip: Path, **more: object) -> dict:
    video = f"data:video/mp4;base64,{base64.b64encode(clip.read_bytes()).decode()}"
    content = [
        {"type": "text", "text": PROBLEM},
        {"type": "video_url", "video_url": {"url": video}},
    ]
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0} | more
    request = urllib.request.Request(
        address,
        json.dumps({"model": "my-model", "max_tokens": 160} | body).encode(),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=300) as reply:
        return json.load(reply)


def test_a_plain_question_about_a_video_is_answered_in_the_template(address, exported, media):
    """The request has no instructions. The prompt has the tokens that p2r's own prompt has."""
    clip = media / "long.mp4"
    reply = ask(address, clip)
    message = reply["choices"][0]["message"]
    assert message["observation"] and message["reasoning"] and message["content"]
    assert "<" not in message["observation"] + message["reasoning"] + message["content"]

    question = Question(id="q", problem=PROBLEM, problem_type="free-form", path=clip.name)
    frames = sample_frames(clip, max_frames=16, max_pixels=3136, factor=14)
    ours = encode_prompts(load_processor(exported), [question], [frames], "brief")["input_ids"]
    assert reply["usage"]["prompt_tokens"] == ours.shape[1]

    off = ask(address, clip, chat_template_kwargs={"enable_process_aware": False})
    assert off["usage"]["prompt_tokens"] < ours.shape[1]


def test_the_server_cannot_import_p2r():
    code = "import sys; sys.path.append('.'); import p2r"
    settings = {"PYTHONPATH": str(HIDING), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "No module named 'p2r'" in done.stderr
