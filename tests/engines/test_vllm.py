"""Real vLLM: offline, in a server of `p2r serve`, and inside a trainer.

The embedded teacher answers through all engines. A random model gets new weights, as in training.
vLLM's CPU build takes half a minute to start, so all tests share one subprocess and one server. The
judges ask the same server with the real clients. The teacher knows nothing of judging, so its
replies are no verdicts. Transport, tokens and books are real.
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import forks
import psutil
import pytest
import torch
from judge_asking import QUESTION, claude, judge_all
from small import VIDEO

from p2r import data
from p2r.cli import run_cli
from p2r.engines import Request, Sampling, load_engine, vllm_server
from p2r.engines.transformers import TransformersEngine
from p2r.engines.vllm_server import VllmServer
from p2r.errors import EngineError
from p2r.judges.database import Database
from p2r.judges.ledger import Ledger
from p2r.records import Question
from p2r.runs import open_run
from p2r.runs.recipe import load_recipe
from p2r.template import VISION_TOKENS
from p2r.video import sample_frames

pytest_plugins = ["small_fixtures"]
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]
TESTS = Path(__file__).parents[1]
HELPERS = TESTS / "helpers"
TEACHER = "playground/teacher"
GREEDY = Sampling(max_tokens=40)
DRAWN = Sampling(temperature=1.0, top_p=0.95, max_tokens=24, seed=3)


@pytest.fixture(scope="module")
def requests(questions, media) -> list[Request]:
    """Videos of two sizes and several frame rates, an image and a question without media."""
    asked = []
    for question in questions:
        frames = sample_frames(media / question.path, **VIDEO) if question.path else None
        asked.append(Request(question.id, question, frames))
    # After 20 minutes of video, text has earlier positions than the video's last moments.
    for name, rate in (("slow", 0.3), ("fast", 3.3), ("20 minutes", 1 / 150)):
        question = questions[0].model_copy(update={"id": name})
        frames = asked[0].frames
        times = [index / rate for index in range(len(frames))]
        asked.append(Request(name, question, replace(frames, timestamps=times)))
    return asked


@pytest.fixture(scope="module")
def too_long() -> list[Request]:
    """More prompts that are too long than an engine reads at once."""
    question = Question(id="long", problem="why? " * 3000, problem_type="free-form")
    return [Request(f"too long {number}", question, None) for number in range(10)]


@pytest.fixture(scope="module")
def changing(questions) -> list[Question]:
    """Prompts longer than a block of vLLM's prefix cache (128 tokens on a CPU)."""
    return [
        question.model_copy(update={"problem": f"{question.problem} " * 60})
        for question in questions[:3]
    ]


@pytest.fixture(scope="module")
def found(
    requests, too_long, questions, changing, model_folder, qwen3_folder, media, tmp_path_factory
) -> dict:
    """The results of `vllm_child`: vLLM in a subprocess, offline and inside a trainer."""
    folder = tmp_path_factory.mktemp("child")
    task = {
        "offline": {
            "model": TEACHER,
            "requests": requests,
            "long": too_long,
            "greedy": GREEDY,
            "drawn": DRAWN,
        },
        "qwen3": {"model": str(qwen3_folder), "requests": requests[:5], "greedy": GREEDY},
        "rollouts": {
            "model": str(model_folder),
            "media": media,
            "questions": changing,
            "out": folder,
        },
        "training": {  # of a model whose rewards differ: a random one earns none
            "model": data.resolve_model(TEACHER),
            "media": media,
            "questions": questions[:3],
            "out": folder / "training",
        },
    }
    (folder / "task.pickle").write_bytes(pickle.dumps(task))
    said = folder / "said"
    code = forks.script(HELPERS / "vllm_child.py", str(folder), log=said)
    assert code == 0, said.read_text()[-6000:]
    return pickle.loads((folder / "found.pickle").read_bytes())


@pytest.fixture(scope="module")
def expected(requests) -> dict:
    """The completions of transformers."""
    engine = load_engine(load_recipe("tiny1"), TEACHER)
    return {c.key: c for c in engine.generate(requests, GREEDY)}


def by_key(completions) -> dict:
    found = {completion.key: completion for completion in completions}
    assert len(found) == len(completions), "a request ended twice"
    return found


# ------------------------------------------------------------------------------------------ offline


def without(answers: dict, requests: list[Request]) -> dict:
    """The answers without these keys, which all failed with a reason."""
    for request in requests:
        assert "maximum context length" in answers.pop(request.key).error
    return answers


def test_offline_equals_transformers_token_for_token(found, expected, too_long):
    answers = without(by_key(found["offline"]["greedy"]), too_long)
    assert answers == expected
    assert len({tuple(c.token_ids) for c in answers.values()}) > 2, "all answers are one"


def test_qwen3_vl_equals_transformers_token_for_token(found, requests, qwen3_folder):
    engine = load_engine(load_recipe("tiny1"), str(qwen3_folder))
    assert by_key(found["qwen3"]) == by_key([*engine.generate(requests[:5], GREEDY)])


def test_sampling_does_not_depend_on_what_else_is_asked(found):
    assert by_key(found["offline"]["drawn"]) == by_key(found["offline"]["drawn backwards"])
    greedy = by_key(found["offline"]["greedy"])
    assert any(c.text != greedy[key].text for key, c in by_key(found["offline"]["drawn"]).items())


def test_stream_yields_the_text_of_generate(found, expected, requests):
    assert found["offline"]["stream"] == expected[requests[0].key].text


def test_reading_may_stop_early(found, expected):
    assert by_key(found["offline"]["after leaving"]) == expected


def test_vision_tokens_are_never_sampled(found):
    processor = data.load_processor(TEACHER)
    banned = set(processor.tokenizer.convert_tokens_to_ids(list(VISION_TOKENS)))
    for completion in found["offline"]["banned"]:
        assert completion.error is None
        assert completion.token_ids and not banned & set(completion.token_ids)


def test_engine_says_what_its_answers_depend_on(found):
    assert set(found["offline"]["identity"]) == {"engine", "weights", "dtype", "prompt"}
    assert found["offline"]["identity"]["engine"] == "vllm"


# ----------------------------------------------------------------------------------------- rollouts


@pytest.mark.parametrize("change", range(2))
def test_rollouts_use_the_new_weights(found, changing, media, change):
    """After each change, vLLM's greedy output is that of transformers with the new weights."""
    rollouts = found["rollouts"]
    engine = TransformersEngine(rollouts[f"model {change}"], dtype="float32", style="brief")
    asked = [Request(q.id, q, sample_frames(media / q.path, **VIDEO)) for q in changing]
    answers = by_key(list(engine.generate(asked, Sampling(max_tokens=24))))
    ids, logprobs = rollouts[f"after {change}"]
    assert ids == [answers[request.key].token_ids for request in asked]
    assert ids != rollouts["before"][0]
    assert [len(row) for row in logprobs] == [len(row) for row in ids]


def test_without_resets_the_old_weights_are_seen(found):
    """This shows that the test above would fail without a reset: vLLM then reuses old states of the
    prompt, and a half reset encoder cache is an error.
    """
    rollouts = found["rollouts"]
    assert rollouts["prefix cache kept"] != rollouts["after 1"]
    assert "ncoder cache" in rollouts["encoder cache kept"]


def test_the_second_group_of_t_grpo_is_sampled_too(found, changing):
    """Every second rollout has a partner on shuffled frames."""
    unknown = [math.isnan(value) for value in found["rollouts"]["shuffled"]]
    assert unknown == [True, False] * len(changing)


def test_weights_over_nccl_are_those_of_the_trainer(found):
    """vLLM's sender announces what it then sends. The group connects the trainer with 4 GPUs."""
    nccl = found["rollouts"]["nccl"]
    assert nccl["groups"] == (5, 5) and nccl["same"] == [True, True]
    # After an error too, each worker reads the names and then the weights: others wait for that.
    assert nccl["read"] == [2 * len(nccl["shapes"])] * 3
    update = ["start_weight_update", "update_weights", "finish_weight_update"]
    paths = [path.partition("?")[0] for path, _ in nccl["calls"]]
    first = ["server_info", "get_world_size", "init_weight_transfer_engine"]
    assert paths == first + 2 * update
    told = nccl["calls"][4][1]["update_info"]
    assert told["shapes"] == nccl["shapes"] and {*told["dtype_names"]} == {"bfloat16"}


@pytest.mark.parametrize("trained", ["training", "adapters"])
def test_training_samples_from_the_weights_of_its_step(found, trained):
    """The trainer and vLLM give each sampled token the same probability, except for the share of
    banned tokens, which only the trainer's softmax includes. Step 1 changed the weights a lot.
    """
    first, second = found[trained]
    for step in (first, second):
        assert 0.8 < step["sampling/importance_sampling_ratio/min"] <= 1.02
        assert 0.8 < step["sampling/importance_sampling_ratio/max"] <= 1.02
    assert second["kl"] > 0.05


# ------------------------------------------------------------------------------------------- server


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """`p2r serve` with the teacher as a stage of a run: its subprocess and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("serve")
    run = open_run(folder / "run", "tiny1", [f"server.model={TEACHER}"]).folder
    (run / "pa_grpo").mkdir()
    (run / "pa_grpo" / "model").symlink_to(data.resolve_model(TEACHER))
    command = ["serve", "--model", str(run / "pa_grpo"), "--port", str(port)]
    command += ["--log", str(folder / "log")]
    output = folder / "output"
    with output.open("w") as writing:
        process = subprocess.Popen(
            [sys.executable, "-m", "p2r", *command, "--rollouts", "--wait", "900"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(HELPERS)])},
            stdout=writing,
            stderr=subprocess.STDOUT,
            # A shell's background job ignores Ctrl-C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        end = time.monotonic() + 600
        while "serving playground/teacher" not in output.read_text():
            assert process.poll() is None and time.monotonic() < end, output.read_text()
            time.sleep(0.2)
        yield process, f"http://127.0.0.1:{port}/v1"
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=300)


def at_server(address: str, *overrides: str):
    settings = ["generate.engine=server", f"server.base_url={address}", *overrides]
    return load_engine(load_recipe("tiny1", settings), TEACHER)


def test_server_equals_offline_and_transformers_token_for_token(
    serving, found, expected, requests, too_long
):
    asked = [*too_long, *requests]
    answers = without(by_key(list(at_server(serving[1]).generate(asked, GREEDY))), too_long)
    offline = without(by_key(found["offline"]["greedy"]), too_long)
    assert answers == offline == expected


def test_server_samples_the_same_as_offline(serving, found, requests):
    answers = by_key(list(at_server(serving[1]).generate(requests, DRAWN)))
    assert answers == by_key(found["offline"]["drawn"])


def test_server_streams_the_text_of_generate(serving, expected, requests):
    assert "".join(at_server(serving[1]).stream(requests[0], GREEDY)) == expected["long"].text


def test_a_plain_client_gets_observation_reasoning_and_content(serving, media):
    """A video file and a plain question, with any OpenAI-style client; also as a stream."""
    from openai import OpenAI

    client = OpenAI(base_url=serving[1], api_key="none")
    clip = base64.b64encode((media / "long.mp4").read_bytes()).decode()
    parts = [
        {"type": "text", "text": "How many objects are there?"},
        {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{clip}"}},
    ]
    ask = {"model": TEACHER, "messages": [{"role": "user", "content": parts}]}
    ask |= {"temperature": 0, "max_tokens": 120}
    message = client.chat.completions.create(**ask).choices[0].message
    whole = {name: getattr(message, name) for name in ("observation", "reasoning", "content")}
    assert all(whole.values()) and not any("<" in text for text in whole.values())
    pieces = dict.fromkeys(whole, "")
    for chunk in client.chat.completions.create(**ask, stream=True):
        for name in pieces:
            pieces[name] += getattr(chunk.choices[0].delta, name, None) or ""
    assert pieces == whole
    off = {"chat_template_kwargs": {"enable_process_aware": False}}
    message = client.chat.completions.create(**ask, extra_body=off).choices[0].message
    assert not getattr(message, "observation", None) and not message.reasoning


def test_a_run_generates_through_the_server(serving, media, questions, tmp_path):
    """From the command line. Every trace has its sampling, prompt hash, frames and pixels."""
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(q.model_dump_json() + "\n" for q in questions))
    run = tmp_path / "run"
    command = ["generate", "--run", run, "--recipe", "tiny1", "--questions", file]
    settings = ["generate.engine=server", f"server.base_url={serving[1]}"]
    command += ["--data-root", media, *(word for each in settings for word in ("--set", each))]
    assert run_cli([*map(str, command)]) == 0
    lines = (run / "generate.jsonl").read_text().splitlines()
    traces = [json.loads(line)["record"]["trace"] for line in lines]
    assert len(traces) == len(questions)
    for trace in traces:
        assert trace["model"] == TEACHER and trace["sampling"]["prompt"]
        assert trace["sampling"]["temperature"] == 0.0 and trace["completion_tokens"] > 0
    video = next(t for t in traces if t["question_id"] == "long")
    assert (video["media"]["height"], video["media"]["max_pixels"]) == (56, 3136)


def test_rollouts_at_the_server_use_the_new_weights(serving, changing, media, tmp_path):
    from small_rl import make_trainer

    from p2r.training.step import Step, encode
    from p2r.training.trainer import ProcessAwareGRPOTrainer
    from p2r.training.vllm_rollouts import attach_vllm

    settings = [
        "rl.rollouts=vllm-server",
        "rl.temperature=0",
        "rl.max_tokens=24",
        f"server.base_url={serving[1]}",
        f"server.model={TEACHER}",
    ]
    model = data.resolve_model(TEACHER)
    trainer, _ = make_trainer(ProcessAwareGRPOTrainer, model, media, changing, tmp_path / "x")
    attach_vllm(trainer, load_recipe("tiny1", settings))
    trainer.model.train()
    trainer.step = Step(changing, group_size=1)
    encode(trainer.step, trainer.processing_class, trainer.frames_of, trainer.style)
    prompts = [prompt.ids for prompt in trainer.step.prompts]
    vllm = trainer.vllm_generation
    _, before, _, _ = vllm.generate(prompts, None, 1)
    old = {name: weights.clone() for name, weights in trainer.model.state_dict().items()}
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in trainer.model.parameters():
            weights += 0.3 * weights.std() * torch.randn(weights.shape, generator=noise)
    vllm.sync_weights()
    _, after, logprobs, _ = vllm.generate(prompts, None, 1)
    trainer.model.save_pretrained(tmp_path / "new")
    data.load_processor(model).save_pretrained(tmp_path / "new")
    engine = TransformersEngine(str(tmp_path / "new"), dtype="float32", style="brief")
    asked = [Request(q.id, q, sample_frames(media / q.path, **VIDEO)) for q in changing]
    answers = by_key(list(engine.generate(asked, Sampling(max_tokens=24))))
    assert after == [answers[request.key].token_ids for request in asked]
    assert after != before
    assert [len(row) for row in logprobs] == [len(row) for row in after]
    trainer.model.load_state_dict(old)
    vllm.sync_weights()  # as it was, for the other tests
    assert vllm.generate(prompts, None, 1)[1] == before


def test_training_with_overlap_samples_one_step_ahead(serving, questions, media, tmp_path):
    """Step 2 has rollouts of the start model, step 3 those of the model after step 1. The seeds are
    known, so the server with these weights writes the same texts again.
    """
    from small import read_lines, small_recipe
    from small_rl import RuleJudge

    from p2r.training.grpo import train_grpo
    from p2r.training.vllm_samplers import OverNccl, make_sampler

    start, out = Path(data.resolve_model(TEACHER)), tmp_path / "rl"
    at_server = ["rl.rollouts=vllm-server", f"server.base_url={serving[1]}"]
    recipe = small_recipe(
        start, *at_server, f"server.model={TEACHER}", "rl.overlap=true", "rl.steps=3", "keep=all",
        "rl.prompts_per_step=3", "rl.group_size=4", "rl.micro_batch=4", "rl.max_tokens=60",
        "rl.top_p=1.0", "rl.learning_rate=3e-4", "rl.scheduler=constant", "rl.save_steps=1",
    )  # fmt: skip
    train_grpo(recipe, questions[:3], start, out, judge=RuleJudge(), data_root=media)
    steps = read_lines(out / "metrics.jsonl")
    lowest = [step["sampling/importance_sampling_ratio/min"] for step in steps]
    assert lowest[0] > 0.8 > max(lowest[1:]), "only the first rollouts are on policy"
    assert all(step["time/rollout_wait"] >= 0 for step in steps)

    trainer = SimpleNamespace(accelerator=SimpleNamespace(is_main_process=True), style="brief")
    sampler = make_sampler(recipe, str(start), trainer)
    cases = read_lines(out / "rollouts.jsonl")
    sampling = Sampling(recipe.rl.temperature, 1.0, 60, recipe.seed)
    for step, weights in ((3, out / "checkpoints" / "checkpoint-1"), (2, start)):  # `start` last
        sampler.load(lambda weights=weights: data.load_model(weights).named_parameters())
        sampler.reset_caches()
        written = [case for case in cases if case["trace"]["step"] == step]
        asked = []
        for row, case in enumerate(written):
            question = Question(**case["question"])
            frames = sample_frames(media / question.path, **VIDEO) if question.path else None
            asked.append(Request(f"{step - 1}/0/{row}", question, frames))
        again = by_key(list(sampler.engine.generate(asked, sampling)))
        texts = [again[request.key].text for request in asked]
        assert texts == [case["trace"]["text"] for case in written], f"step {step}"
    nccl = OverNccl(recipe, str(start), trainer)
    with pytest.raises(EngineError, match="takes no weights over NCCL: start it with p2r serve"):
        nccl.load(lambda: iter(()))


# ------------------------------------------------------------------------- judges on the server


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("P2R_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("api", ["claude", "messages", "server"])
def test_judges_count_the_tokens_and_the_cost_of_replies(serving, cache, monkeypatch, api):
    address = serving[1].removesuffix("/v1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
    spec = f"claude:{TEACHER}" if api == "claude" else f"{api}:{address}#{TEACHER}"
    limits = {"timeout": 300.0, "call_limit": 400.0, "max_tokens": 24}
    judge = claude("run", spec, **limits, prices={TEACHER: (1.0, 2.0)}, budget=1.0)
    verdicts = judge_all(judge, [f"A red circle moves {way}." for way in ("left", "right")])
    for verdict in verdicts:
        assert verdict.sufficient is None and "no readable verdict" in verdict.rationale
        assert verdict.usage["input_tokens"] > 200 and 0 < verdict.usage["output_tokens"] <= 24
        tokens = verdict.usage["input_tokens"], verdict.usage["output_tokens"]
        assert verdict.cost == pytest.approx((tokens[0] + 2 * tokens[1]) / 1e6)
    rows = Ledger(Database(), "run").summary()
    assert sum(row.calls for row in rows) == len(verdicts)
    assert sum(row.input_tokens for row in rows) == sum(v.usage["input_tokens"] for v in verdicts)
    assert sum(row.cost for row in rows) == pytest.approx(sum(v.cost for v in verdicts))


def test_a_judge_that_the_server_does_not_have(serving, cache):
    judge = claude("", f"server:{serving[1].removesuffix('/v1')}#nobody", retries=0)
    (verdict,) = judge.judge([QUESTION], ["red"])
    assert verdict.sufficient is None and verdict.rationale.startswith("HTTP 404")


def test_ctrl_c_ends_the_server_and_its_children(serving):
    process, _ = serving
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 1
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) == 130
    assert not psutil.wait_procs(family, timeout=120)[1]


# -------------------------------------------------------------------------- a server that fails


def server_of(folder: Path, **how) -> VllmServer:
    return VllmServer(load_recipe("tiny1"), TEACHER, log=folder / "log", **how)


def test_a_port_in_use_is_reported(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(EngineError, match=f"cannot serve on 127.0.0.1:{port} .*--port"),
            server_of(tmp_path, port=port),
        ):
            pass


def test_a_server_that_others_can_reach_needs_a_key(tmp_path, monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(EngineError, match="set VLLM_API_KEY"):
        server_of(tmp_path, host="0.0.0.0")
    for host in ("127.0.0.2", "LOCALHOST", "::1"):
        assert host in server_of(tmp_path, host=host).base_url
    monkeypatch.setenv("VLLM_API_KEY", "x")
    assert server_of(tmp_path, host="0.0.0.0").base_url == "http://127.0.0.1:8000/v1"


def test_a_server_that_does_not_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_server, "MODULE", "no_such_server")
    with (
        pytest.raises(EngineError, match=r"ended with code 1: .*no_such_server"),
        server_of(tmp_path, port=8999),
    ):
        pass


def test_a_server_that_never_answers_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(vllm_server, "MODULE", "timeit")  # runs on, and serves nothing
    server = server_of(tmp_path, port=8998, wait=1)
    server.arguments = ["import time; time.sleep(600)"]
    with pytest.raises(EngineError, match=r"does not answer after 1 s .*--wait"), server:
        pass
    assert server.process is None


def test_the_settings_follow_the_recipe():
    recipe = load_recipe("7b", ["vllm.tensor_parallel=4", "models.teacher=playground/teacher"])
    server = VllmServer(recipe, TEACHER, log=Path("log"))
    words = server.arguments
    given = dict(itertools.pairwise(words))
    limits = json.loads(given["--limit-mm-per-prompt"])
    assert limits["video"]["num_frames"] == 32
    assert limits["video"]["height"] * limits["video"]["width"] <= recipe.video.eval_pixels
    assert limits["image"]["height"] * limits["image"]["width"] <= recipe.video.image_pixels
    assert given["--tensor-parallel-size"] == "4" and given["--dtype"] == "bfloat16"
    assert given["--host"] == "127.0.0.1"
    assert json.loads(given["--mm-processor-kwargs"])["do_resize"] is False
    # The model's positions, which are fewer than the recipe's videos and texts may need.
    assert given["--max-model-len"] == "4096"
    recipe = load_recipe("tiny1", ["vllm.weights=nccl"])
    words = VllmServer(recipe, TEACHER, log=Path("log"), rollouts=True).arguments
    given = dict(itertools.pairwise(words))
    assert json.loads(given["--weight-transfer-config"]) == {"backend": "nccl"}
    words = VllmServer(recipe, TEACHER, log=Path("log")).arguments
    assert "--weight-transfer-config" not in words
