"""Judges behind servers, with the real clients, against a server with every kind of fault."""

import asyncio
import logging
from dataclasses import asdict

import pytest
from judge_asking import KEY, QUESTION, claude, judge_all
from own_loop import run_async

from p2r.errors import JudgeError
from p2r.judges.database import Database
from p2r.judges.ledger import Ledger

pytestmark = pytest.mark.slow
pytest_plugins = ["judge_fixtures"]

PASSING = ["429 x2", "503 x1", "529 x2", "500 x1", "dropped x2", "half x1", "cutjson x2", "html x1"]
PASSING += ["list x1", "nothing x2", "empty x1"]
LASTING = {
    "529": "HTTP 529",
    "400": "HTTP 400",
    "401": "HTTP 401",
    "dropped": "no connection",
    "half": "no connection",
    "cutjson": "malformed answer",
    "html": "malformed answer",
    "list": "malformed answer",
    "nothing": "malformed answer",
    "empty": "empty answer",
    "mumble": "no readable verdict (stopped by end_turn)",
    "both": "no readable verdict",
    "refusal": "the judge refused",
    "cutoff": "no readable verdict (stopped by max_tokens)",
}


def books(run=""):
    rows = [asdict(row) for row in Ledger(Database(), run).summary()]
    return {row["outcome"]: row for row in rows}


@pytest.fixture(params=["claude:claude-haiku-4-5", "messages:{}#m", "server:{}#m"])
def spec(request, server):
    return request.param.format(server.url)


def test_short_faults_change_no_verdict(server, spec):
    observations = [f"{n} {word} fault: {f}" for n, f in enumerate(PASSING) for word in ("red", "")]
    judge = claude(spec=spec)
    verdicts = judge_all(judge, observations)
    assert [v.sufficient for v in verdicts] == [True, False] * len(PASSING)
    assert {judge.name} == {v.judge for v in verdicts}
    assert server.answered == dict.fromkeys(map(str.strip, observations), 1), "each answered once"
    assert books()["verdict"]["calls"] == len(observations)


def test_lasting_faults_give_unknown_verdicts_and_affect_no_other_call(server, spec):
    observations = [f"red fault: {fault}" for fault in LASTING]
    good = [f"red {n}" for n in range(20)]
    verdicts = judge_all(claude(spec=spec, retries=1), observations + good)
    for fault, verdict in zip(LASTING, verdicts, strict=False):
        assert verdict.sufficient is None, fault
        assert LASTING[fault] in verdict.rationale, fault
        assert KEY not in verdict.model_dump_json()
    assert all(v.sufficient is True for v in verdicts[len(LASTING) :])
    unknown = {outcome: row["calls"] for outcome, row in books().items() if outcome != "verdict"}
    # What is no message is asked for twice more, and each of those calls stands in the books.
    again = {"cutjson", "html", "list", "nothing", "empty"}
    assert sum(unknown.values()) == len(LASTING) + 2 * len(again)


def test_a_refused_key_stops_the_work_unless_it_was_accepted_before(server, spec):
    judge = claude(spec=spec)
    name = "ANTHROPIC_API_KEY" if spec.startswith("claude") else "P2R_JUDGE_KEY"
    with pytest.raises(JudgeError, match=rf"refuses the key .*HTTP 401.*check {name}"):
        judge_all(judge, ["red fault: 401", "blue fault: 401"])
    judge = claude(spec=spec)
    assert judge_all(judge, ["red"])[0].sufficient is True
    assert judge_all(judge, ["red 2 fault: 401"])[0].sufficient is None


def test_calls_to_slow_servers_end_within_their_limits(server, spec):
    """Late, dripping single bytes, or asking for a retry tomorrow."""
    observations = ["red fault: slow", "red fault: drip", "red fault: forever", "red"]
    judge = claude(spec=spec, timeout=1.5, call_limit=5.0, retries=1)
    verdicts = judge_all(judge, observations)
    assert [v.sufficient for v in verdicts] == [None, None, None, True]
    assert "within 5 s" in verdicts[1].rationale
    # Anthropic's client does as it is told, OpenAI's comes back sooner.
    assert "within 5 s" in verdicts[2].rationale or "HTTP 429" in verdicts[2].rationale
    assert server.asked["red fault: forever"] <= 2 and server.asked["red fault: slow"] == 2


def test_an_unreachable_server_gives_no_verdict(monkeypatch, server):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    (verdict,) = judge_all(claude(retries=0), ["red"])
    assert verdict.sufficient is None and "no connection" in verdict.rationale
    assert books()["no connection: APIConnectionError"]["calls"] == 1


def test_the_recipe_limits_the_parallel_calls(server):
    server.delay = 0.1
    verdicts = judge_all(claude(concurrency=3), [f"red {n}" for n in range(12)])
    assert all(v.sufficient for v in verdicts)
    assert server.most_in_flight == 3


def test_one_verdict_is_awaited_in_the_callers_own_loop(server):
    judge = claude()

    async def several():
        return await asyncio.gather(*(judge.judge(QUESTION, f"red {n}") for n in range(5)))

    assert [v.sufficient for v in run_async(several())] == [True] * 5
    # Another loop, and plain code, with the same connections.
    assert run_async(judge.judge(QUESTION, "blue")).sufficient is False
    assert judge_all(judge, ["red x"])[0].sufficient is True


def test_cost_and_tokens_of_a_verdict(server):
    first, again = judge_all(claude(), ["red", "red"])
    assert first.usage == {"input_tokens": 1000, "output_tokens": 100, "priced": True}
    assert first.cost == pytest.approx(0.0015)
    assert again.cost == 0 and again.usage == {"reused": True}
    (unpriced,) = judge_all(claude(spec="claude:claude-next"), ["red"])
    assert unpriced.cost == 0 and unpriced.usage["priced"] is False
    (own,) = judge_all(claude(spec="claude:other", prices={"other": (10, 100)}), ["red"])
    assert own.cost == pytest.approx(0.02)


def test_a_malformed_answer_and_its_retry_cost_twice(server):
    (verdict,) = judge_all(claude(), ["red fault: empty x1"])
    assert verdict.sufficient is True and verdict.cost == pytest.approx(0.003)


def test_the_key_goes_only_to_its_server(server, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    judge = claude()
    judge_all(judge, ["red", "fault: 401", "fault: dropped"])
    assert server.keys == {KEY}, "Claude's server gets it"
    assert KEY not in repr(judge) + repr(vars(judge)) + str(vars(judge))
    logged = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("p2r"))
    assert KEY not in logged + "".join(capfd.readouterr())
    for file in (tmp_path / "cache").iterdir():
        assert KEY.encode() not in file.read_bytes()


@pytest.mark.parametrize("kind", ["server", "messages"])
def test_another_server_never_gets_the_keys_of_anthropic_or_openai(server, monkeypatch, kind):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY)
    assert judge_all(claude(spec=f"{kind}:{server.url}#m"), ["red"])[0].sufficient
    assert server.keys == {"none"}
    monkeypatch.setenv("P2R_JUDGE_KEY", "mine")
    judge_all(claude(spec=f"{kind}:{server.url}#other"), ["red"])
    assert server.keys == {"none", "mine"}


def test_thinking_before_the_reply_is_removed(server):
    from types import SimpleNamespace as Made

    from p2r.judges.kinds.server import read_completion

    text = "<think>I could say <judgement>Yes</judgement>.</think>No. <judgement>No</judgement>"
    choice = Made(message=Made(content=text), finish_reason="stop")
    reply = read_completion(Made(choices=[choice], usage=None))
    assert reply.text == "No. <judgement>No</judgement>"
    from p2r.judges.kinds.claude import read_message

    message = Made(content=[Made(type="text", text=text)], stop_reason="end_turn", usage=None)
    assert read_message(message).text == reply.text


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_a_verdict_in_the_reasoning_alone_is_named_and_read_by_a_setting(field):
    from types import SimpleNamespace as Made

    from p2r.judges.kinds.server import read_completion

    message = Made(content=None, **{field: "It says so. <judgement>Yes</judgement>"})
    completion = Made(choices=[Made(message=message, finish_reason="stop")], usage=None)
    reply = read_completion(completion)
    assert "in reasoning_content" in reply.failure and "reasoning: true" in reply.failure
    assert not reply.broken, "asking again would cost money and give the same"
    judge = claude(spec={"kind": "server", "url": "http://x", "model": "m", "reasoning": True})
    read = judge.read(read_completion(completion, judge._reasoning), "A ball.")
    assert read.sufficient is True
    message.content = "No. <judgement>No</judgement>"
    assert judge.read(read_completion(completion, True), "A ball.").sufficient is False


def test_only_long_guidance_is_marked_for_the_prompt_cache(server):
    judge_all(claude(guidance="Be strict."), ["red"])
    judge_all(claude(guidance="An example. " * 2000), ["red"])
    judge_all(claude(), ["red"])
    short, long, none = server.bodies
    assert short["system"] == [{"type": "text", "text": "Be strict."}]
    assert long["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert "system" not in none
    assert sum(server.asked.values()) == 3, "other guidance is another judge"


def test_cached_tokens_have_their_own_price():
    from types import SimpleNamespace as Made

    from p2r.judges.prices import Price, Usage

    told = Made(input_tokens=100, output_tokens=10, cache_creation_input_tokens=1000,
                cache_read_input_tokens=None)  # fmt: skip
    usage = Usage.of_message(told)
    assert usage == Usage(input=1100, output=10, cache_write=1000)
    assert Price(1, 5).cost(usage) == pytest.approx((100 + 1250 + 50) / 1e6)
    assert Price(1, 5).cost(usage, batch=True) == pytest.approx((100 + 1250 + 50) / 2e6)
    assert Price(1, 5).worst("é" * 100, 50) >= Price(1, 5).cost(Usage(200, 50))


def test_prices_of_models_of_their_snapshots_and_of_the_recipe():
    from p2r.judges.prices import Price, Usage, find_price

    assert find_price("claude-haiku-4-5-20251001") == find_price("claude-haiku-4-5") == Price(1, 5)
    assert find_price("claude-3-7-sonnet-20250219") == Price(3, 15)
    assert find_price("claude-3-7-sonnet-latest", {"claude-3-7-sonnet-latest": (0, 0)}) == Price(
        0, 0
    )
    for name in ("claude-haiku-4-5-2025", "claude", "qwen-20250219", "claude-haiku-4"):
        assert find_price(name) is None, name
    read = Usage(input=1000, cache_read=1000)
    assert find_price("claude-opus-5-5").cost(read) == pytest.approx(1000 * 4 * 0.05 / 1e6)


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-sonnet-5", {"thinking": {"type": "disabled"}}),
        ("claude-sonnet-5-5", {"thinking": {"type": "between_tools"}}),
        ("claude-opus-5-5", {"output_config": {"effort": "low"}}),
        ("claude-haiku-4-5-20251001", {}),
    ],
)
def test_thinking_does_not_use_the_tokens_of_the_verdict(server, model, sent):
    (verdict,) = judge_all(claude(spec=f"claude:{model}"), ["red"])
    assert verdict.sufficient is True and verdict.usage["priced"]
    body = server.bodies[0]
    assert {key: body.get(key) for key in ("thinking", "output_config") if key in body} == sent
