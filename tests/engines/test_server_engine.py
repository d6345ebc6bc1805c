"""The server engine with a server that fails: every request ends once, none stops the rest."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from fault_server import MODEL, FaultServer
from small import VIDEO

import p2r.engines.server as module
from p2r.engines import Request, Sampling, load_engine
from p2r.engines.responses import make_trace
from p2r.engines.server import ServerEngine
from p2r.errors import EngineDied, EngineError, UserError
from p2r.records import Question
from p2r.runs.recipe import load_recipe
from p2r.template import strip_control_tokens
from p2r.video import sample_frames

pytest_plugins = ["small_fixtures"]
GREEDY = Sampling(max_tokens=8)

# A fault that passes, and the number of attempts that the answer then takes.
PASSING = {
    "limited": 2,
    "broken": 2,
    "busy": 2,
    "dropped": 2,
    "torn": 2,
    "malformed": 2,
    "nothing": 2,
    "empty": 2,
    "odd": 2,
    "no_object": 2,
    "overloaded": 2,
    "parts": 1,
    "ended": 1,
    "reasoned_too": 1,
}
# A fault that stays, what is said of it, and the attempts made (3 where it is worth trying again).
LASTING = {
    "broken": ("500 .*it broke", 3),
    "busy": ("answered 503", 3),
    "dropped": ("connection failed", 3),
    "torn": ("connection failed|not JSON", 3),
    "malformed": ("not JSON|no choice", 3),
    "nothing": ("no choice", 3),
    "empty": ("empty", 3),
    "wrong": (r"400 .*prompt too long \(Bearer \[key\]\)", 1),
    "refusal": ("refused: I would rather not", 1),
    "filtered": ("refused: content filter", 1),
    "overloaded": ("model overloaded", 3),
    "reasoned": ("whole text in reasoning_content .* server.reasoning=true", 1),
    "reasoned_newly": ("whole text in reasoning_content", 1),
}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")


def engine_of(server: FaultServer, *overrides: str, model: str = MODEL) -> ServerEngine:
    settings = [
        "generate.engine=server",
        f"server.base_url={server.base_url}",
        "server.media=images",
        "server.attempts=3",
        *overrides,
    ]
    return load_engine(load_recipe("tiny", settings), model)


def asking(*names: str) -> list[Request]:
    return [
        Request(name, Question(id=name, problem=f"<{name}>?", problem_type="free-form"), None)
        for name in names
    ]


def plans(faults: dict[str, list[str]]) -> dict[str, list[str]]:
    return {f"<{name}>": plan for name, plan in faults.items()}


def test_every_request_ends_in_exactly_one_outcome():
    """Temporary and permanent faults, mixed with requests that succeed."""
    faults = {f"passes-{kind}": [kind] for kind in PASSING}
    faults |= {f"stays-{kind}": [kind] * 9 for kind in LASTING}
    faults |= {f"well-{number}": [] for number in range(20)}
    with FaultServer(plans(faults)) as server:
        completions = list(engine_of(server).generate(iter(asking(*faults)), GREEDY))
    found = {completion.key: completion for completion in completions}
    assert len(completions) == len(found) == len(faults)
    for name, completion in found.items():
        how, _, kind = name.partition("-")
        attempts = server.asked[f"<{name}>"]
        if how == "stays":
            said, expected = LASTING[kind]
            assert completion.error and completion.text == ""
            assert attempts == expected, name
            assert re.search(said, completion.error), completion.error
            assert f"(attempt {expected})" in completion.error
        else:
            assert (completion.text, completion.error) == ("fine", None)
            assert (completion.prompt_tokens, completion.tokens) == (7, 3)
            assert attempts == (PASSING[kind] if how == "passes" else 1), name


def test_retry_after_is_honoured():
    with FaultServer(plans({"a": ["limited", "limited"]})) as server:
        (completion,) = engine_of(server).generate(asking("a"), GREEDY)
    assert completion.text == "fine"
    first, second, third = server.times["<a>"]
    assert second - first >= 0.3 and third - second >= 0.3


def test_a_wait_beyond_the_time_limit_does_not_begin():
    with FaultServer(plans({"a": ["limited_long"], "b": []})) as server:
        found = {
            c.key: c
            for c in engine_of(server, "server.timeout=20").generate(asking("a", "b"), GREEDY)
        }
    assert "429" in found["a"].error and "no time is left" in found["a"].error
    assert found["b"].text == "fine"


def test_a_slow_answer_ends_at_its_time_limit_and_does_not_stop_the_rest():
    with FaultServer(plans({"slow": ["slow"] * 9, "a": [], "b": []})) as server:
        engine = engine_of(server, "server.timeout=3")
        found = {c.key: c for c in engine.generate(asking("slow", "a", "b"), GREEDY)}
    assert "no answer within 3 s" in found["slow"].error
    assert server.asked["<slow>"] == 1
    assert found["a"].text == found["b"].text == "fine"


def test_the_number_of_open_requests_is_limited():
    names = [f"r{number:02}" for number in range(40)]
    with FaultServer(plans({name: [] for name in names})) as server:
        drawn = []
        requests = (drawn.append(r.key) or r for r in asking(*names))
        answers = engine_of(server, "server.concurrency=4").generate(requests, GREEDY)
        next(answers)
        assert len(drawn) <= 8
        assert len(list(answers)) == len(names) - 1
    assert 1 < server.at_once <= 4


def test_reading_may_stop_early():
    names = [f"r{number:02}" for number in range(40)]
    before = threading.active_count()
    with FaultServer(plans({name: [] for name in names})) as server:
        answers = engine_of(server, "server.concurrency=4").generate(asking(*names), GREEDY)
        next(answers)
        answers.close()
        assert sum(server.asked.values()) < len(names)
    assert not [t for t in threading.enumerate() if t.name == "server engine"]
    assert threading.active_count() <= before + 2  # the server's own may take a moment


def test_a_cut_answer_is_truncated():
    with FaultServer(plans({"a": ["cut"]})) as server:
        (completion,) = engine_of(server).generate(asking("a"), GREEDY)
    assert completion.truncated and completion.text == "fine so f"


@pytest.mark.parametrize("kind", ["reasoned", "reasoned_newly"])
def test_text_in_reasoning_content_alone_is_used_by_a_setting(kind):
    with FaultServer(plans({"a": [kind]})) as server:
        engine = engine_of(server, "server.reasoning=true")
        (completion,) = engine.generate(asking("a"), GREEDY)
    trace = make_trace(asking("a")[0].question, completion, "full", sampling={"seed": 0})
    assert trace.text == "fine thought"
    assert trace.sampling == {"seed": 0, "text_from": "reasoning_content"}
    assert engine.identity["reasoning"] is True


def test_a_response_that_is_cut_within_its_reasoning_is_a_truncated_trace_that_says_so():
    with FaultServer(plans({"a": ["reasoned_cut"]})) as server:
        (completion,) = engine_of(server).generate(asking("a"), GREEDY)
    trace = make_trace(asking("a")[0].question, completion, "direct")
    assert (trace.text, trace.truncated) == ("", True)
    assert trace.problems == ["the text is in reasoning_content alone"]


def test_missing_token_counts_are_unknown_and_the_trace_is_kept():
    with FaultServer(plans({"a": ["odd_counts"]})) as server:
        (request,) = asking("a")
        (completion,) = engine_of(server).generate([request], GREEDY)
    assert (completion.text, completion.prompt_tokens, completion.tokens) == ("fine", None, None)
    trace = make_trace(request.question, completion, "full")
    assert trace.text == "fine" and not trace.completion_tokens


def test_sampling_is_sent():
    with FaultServer(plans({"a": []})) as server:
        drawn = Sampling(temperature=0.7, top_p=0.9, max_tokens=5, seed=3)
        list(engine_of(server).generate(asking("a"), drawn))
        list(engine_of(server).generate(asking("a"), drawn))
        list(engine_of(server).generate(asking("a"), Sampling(temperature=0.01)))
    first, again, greedy = server.bodies
    assert first == again
    assert (first["temperature"], first["top_p"], first["max_tokens"]) == (0.7, 0.9, 5)
    assert first["model"] == MODEL and isinstance(first["seed"], int)
    assert greedy["temperature"] == 0


def test_a_video_is_sent_as_images_or_as_a_file(media):
    question = Question(id="a", problem="<a>?", problem_type="free-form", path="long.mp4")
    frames = sample_frames(media / "long.mp4", **VIDEO)
    with FaultServer(plans({"a": []})) as server:
        for form in ("images", "file"):
            engine = engine_of(server, f"server.media={form}")
            list(engine.generate([Request("a", question, frames)], GREEDY))
    images, file = (body["messages"][0]["content"] for body in server.bodies)
    assert [part["type"] for part in images] == ["text", *["image_url"] * len(frames), "text"]
    assert f"{len(frames)} frames" in images[0]["text"]
    assert images[1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert [part["type"] for part in file] == ["video_url", "text"]
    assert file[0]["video_url"]["url"].startswith("data:video/mp4;base64,")


def test_exact_frames_are_sent_without_loss(media, model_folder):
    """In the format of vLLM: a list of pictures and their frame rate."""
    import base64
    import io

    from PIL import Image

    question = Question(id="a", problem="<a>?", problem_type="free-form", path="long.mp4")
    frames = sample_frames(media / "long.mp4", **VIDEO)
    recipe = load_recipe("tiny", ["generate.engine=server"])
    engine = load_engine(recipe, str(model_folder))
    payload = engine._payload(Request("a", question, frames), GREEDY)
    url = payload["messages"][0]["content"][0]["video_url"]["url"]
    pictures = url.removeprefix("data:video/jpeg;base64,").split(",")
    sent = [np.asarray(Image.open(io.BytesIO(base64.b64decode(p)))) for p in pictures]
    assert np.array_equal(np.stack(sent), frames.frames)
    about = payload["media_io_kwargs"]["video"]
    assert about["fps"] == frames.sampled_fps and about["num_frames"] == -1
    assert "<|video_pad|>" in payload["bad_words"]


def test_a_server_without_token_ids_is_not_exact(model_folder):
    with FaultServer(plans({"a": []}), models=[str(model_folder)]) as server:
        engine = engine_of(server, "server.media=exact", model=str(model_folder))
        with pytest.raises(EngineError, match=r"no token ids.*p2r serve"):
            list(engine.generate(asking("a"), GREEDY))


def test_a_missing_server_is_reported_at_once():
    with FaultServer({}) as server:
        pass
    with pytest.raises(EngineError, match=r"no server answers at .*p2r serve") as raised:
        list(engine_of(server).generate(asking("a"), GREEDY))
    assert not isinstance(raised.value, EngineDied), "no sample is to blame"


def test_a_server_that_goes_away_stops_the_run_and_fails_no_request():
    with FaultServer(plans({"a": [], "b": ["dropped"] * 9})) as server:
        engine = engine_of(server, "server.concurrency=1")
        answers = engine.generate(asking("a", "b"), GREEDY)
        assert next(answers).text == "fine"
        server.shutdown()
        server.server_close()
        with pytest.raises(EngineDied, match="no server answers"):
            list(answers)


def test_a_model_that_the_server_does_not_have_is_named():
    with FaultServer({}, models=["other/model"]) as server:
        with pytest.raises(EngineError, match=r"no model 'some/model' \(it has other/model\)"):
            list(engine_of(server).generate(asking("a"), GREEDY))
        named = engine_of(server, "server.model=other/model")
        assert named.name == "other/model"


@pytest.mark.parametrize("fault", ["start", "later"])
def test_a_refused_key_stops_the_run_and_is_never_shown(fault):
    models = ["refused"] if fault == "start" else None
    with FaultServer(plans({"a": ["refused_key"]}), models) as server:
        with pytest.raises(EngineError, match="refused the key") as found:
            list(engine_of(server).generate(asking("a"), GREEDY))
        assert server.keys == ["Bearer sk-secret"]
    assert "sk-secret" not in str(found.value)


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://x/v1", "http://me:key@host/v1"])
def test_an_impossible_address_is_refused(address):
    with pytest.raises(UserError, match="address"):
        load_recipe("tiny", [f"server.base_url={address}"])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("B<|im_end|>", "B"),
        ("<|begin_of_box|>B<|end_of_box|></s>\n", "B"),
        ("<s> B</s>", "B"),
        ("B<｜end▁of▁sentence｜>", "B"),
        ("B <end_of_turn>\n<eos>", "B"),
        (" a b\n", " a b\n"),
        ("<answer>B</answer>", "<answer>B</answer>"),
        ("x < y > z", "x < y > z"),
        ("", ""),
    ],
)
def test_control_tokens_at_the_ends_of_a_response_are_removed(text, kept):
    assert strip_control_tokens(text) == kept
