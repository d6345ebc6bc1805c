"""The cache of verdicts and the ledger: several processes, kills, budgets and the CLI."""

import asyncio
import json
import random
import sqlite3
import sys
import threading
import time

import forks
import pytest
from judge_asking import KEY, QUESTION, claude, judge_all
from own_loop import run_async

from p2r.cli import run_cli
from p2r.errors import JudgeError, StoreError
from p2r.files.journal import Journal
from p2r.judges import JournaledJudge, make_judge
from p2r.judges.database import Database, default_path
from p2r.judges.ledger import Ledger
from p2r.judges.run_judge import books_of, spending
from p2r.pipeline.status import status
from p2r.records import Case, Question, Trace
from p2r.runs import open_run
from p2r.runs.recipe import load_recipe
from p2r.template import parse, render

pytestmark = pytest.mark.slow
pytest_plugins = ["judge_fixtures"]


def run_forks(work, count):
    """Call `work(place)` in `count` subprocesses at once. Return their exit codes."""
    children = [forks.start(work, place) for place in range(count)]
    for child in children:
        child.join(600)
        child.kill()
    return [child.exitcode for child in children]


def books(run=""):
    return {row.outcome: row for row in Ledger(Database(), run).summary()}


# ---- the cache


def test_verdicts_are_cached_across_judges_and_runs_and_failures_are_not(server):
    judge_all(claude("one"), ["red", "blue", "mumble fault: mumble"])
    verdicts = judge_all(claude("two"), ["red", "blue", "mumble fault: mumble"])
    assert [v.sufficient for v in verdicts] == [True, False, None]
    assert [v.cost for v in verdicts] == pytest.approx([0, 0, 0.0015])
    assert server.asked == {"red": 1, "blue": 1, "mumble fault: mumble": 2}
    assert verdicts[0].rationale == "Why." and verdicts[0].usage == {"reused": True}


def test_a_change_in_the_judgement_changes_its_key(server):
    judge_all(claude(), ["red"])
    for field, value in (("problem", "Else?"), ("answer", "B"), ("options", ["A. x"])):
        judge_all(claude(), ["red"], QUESTION.model_copy(update={field: value}))
    judge_all(claude(), ["red"], QUESTION.model_copy(update={"data_type": "image"}))
    judge_all(claude(spec="claude:claude-sonnet-5"), ["red"])
    judge_all(claude(guidance="Be strict."), ["red"])
    assert server.asked["red"] == 7
    # The id, the source and the like are not shown to the judge.
    judge_all(claude(), ["red"], QUESTION.model_copy(update={"id": "q2", "path": "x.mp4"}))
    assert server.asked["red"] == 7


def test_each_request_of_a_judge_has_its_own_verdicts(server, tmp_path):
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 500}}
    with Journal(tmp_path / "verdicts.jsonl") as journal:
        for request in (None, {}, thinking, thinking, {"output_config": {"effort": "high"}}):
            judge_all(JournaledJudge(claude(request=request), journal), ["red"])
    assert server.asked["red"] == 3, "no fields are the default of this model"
    assert [body.get("thinking") for body in server.bodies] == [None, thinking["thinking"], None]


def test_identical_judgements_in_progress_are_sent_once(server):
    server.delay = 0.3
    judge = claude()

    async def many():
        return await asyncio.gather(*(judge.judge(QUESTION, "red") for _ in range(20)))

    threads = [threading.Thread(target=judge_all, args=(judge, ["red"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    verdicts = run_async(many())
    for thread in threads:
        thread.join()
    assert all(v.sufficient for v in verdicts) and server.asked == {"red": 1}
    assert sum(v.cost for v in verdicts) <= 0.0015


def judge_sixty(place):
    verdicts = judge_all(claude("run", concurrency=8), [f"red {n}" for n in range(60)])
    sys.exit(not all(v.sufficient for v in verdicts))


def test_processes_share_the_cache_and_make_each_call_once(server):
    server.delay = 0.02
    assert run_forks(judge_sixty, 3) == [0, 0, 0]
    assert server.asked == {f"red {n}": 1 for n in range(60)}
    assert books("run")["verdict"].calls == 60
    (mode,) = sqlite3.connect(default_path()).execute("PRAGMA journal_mode").fetchone()
    assert mode == "wal"


def test_the_cache_is_at_the_configured_path(server, tmp_path, monkeypatch):
    judge_all(claude(cache=str(tmp_path / "mine" / "v.sqlite")), ["red"])
    assert (tmp_path / "mine" / "v.sqlite").is_file() and not default_path().exists()
    monkeypatch.delenv("P2R_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_path() == tmp_path / "xdg" / "p2r" / "judgements.sqlite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_path() == tmp_path / "home" / ".cache" / "p2r" / "judgements.sqlite"


def test_a_damaged_cache_is_one_clear_line(server, tmp_path):
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"no database, at all, whatever it says" * 100)
    with pytest.raises(StoreError, match=r"broken\.sqlite cannot be used.*P2R_CACHE"):
        claude(cache=str(broken))


# ---- the books


def test_a_budget_is_never_exceeded_and_judging_continues_later(server):
    server.delay = 0.02
    observations = [f"red {n}" for n in range(60)]
    judge = claude("run", budget=0.04, concurrency=16)
    with pytest.raises(JudgeError, match=r"budget of \$0\.04 is reached.*to continue"):
        judge_all(judge, observations)
    ledger = Ledger(Database(), "run")
    asked = sum(server.asked.values())
    assert ledger.spent() == pytest.approx(asked * 0.0015), "every call that was made is paid"
    worst = judge.worst("x" * 2000)
    assert 0.04 - 2 * worst < ledger.spent() <= 0.04, "and hardly more could be made"
    with pytest.raises(JudgeError):
        judge_all(claude("run", budget=0.04), observations)
    assert sum(server.asked.values()) <= asked + 1
    assert all(v.sufficient for v in judge_all(claude("run", budget=1.0), observations))
    assert set(server.asked.values()) == {1}, "nothing was asked twice"
    assert Ledger(Database(), "run").spent() == pytest.approx(60 * 0.0015)


def test_each_run_has_its_own_budget(server):
    judge_all(claude("one"), [f"red {n}" for n in range(20)])
    assert judge_all(claude("two", budget=0.02), ["red x"])[0].sufficient is True


def judge_until_the_budget_ends(place):
    try:
        judge_all(claude("run", budget=0.03), [f"red {place} {n}" for n in range(40)])
    except JudgeError:
        sys.exit(7)


def test_processes_keep_one_budget_together(server):
    server.delay = 0.02
    assert run_forks(judge_until_the_budget_ends, 2) == [7, 7]
    spent = sum(server.asked.values()) * 0.0015
    assert spent <= 0.03 and Ledger(Database(), "run").spent() == pytest.approx(spent)


def test_a_call_of_another_process_delays_no_other_call(server):
    other, ledger = (Ledger(Database(), run) for run in ("other", "run"))

    async def reserve():
        theirs = await other.reserve("j", "red", 0.01, 600)
        waiting = asyncio.ensure_future(ledger.reserve("j", "red", 0.01, 600))
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(ledger.reserve("j", "blue", 0.01, 600), 10)
        assert not waiting.done()
        with other.database.transaction() as books:
            other.settle(books, theirs, "j", {})
        assert await asyncio.wait_for(waiting, 10), "their call failed, so it is made here"

    asyncio.run(reserve())


def test_a_call_does_not_wait_for_an_open_batch(server):
    """A batch can take days. The error names it."""
    ledger = Ledger(Database(), "run", budget=1.0)
    with ledger.database.transaction() as books:
        held = ledger.reserve_batch(books, "j", 10, 0.9, 10**6)
        row = ("token", "msgbatch_1", "run", "j", held, 10, 0.0)
        books.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    async def reserve():
        with pytest.raises(
            JudgeError, match=r"\$0\.9000 is reserved for the open batch msgbatch_1"
        ):
            await asyncio.wait_for(ledger.reserve("j", "large", 0.2, 600), 10)
        first = await asyncio.wait_for(ledger.reserve("j", "first", 0.08, 600), 10)
        waiting = asyncio.ensure_future(ledger.reserve("j", "second", 0.05, 600))
        await asyncio.sleep(0.05)
        assert not waiting.done(), "it waits for the call in progress"
        with ledger.database.transaction() as books:
            ledger.settle(books, first, "j", {})
        assert await asyncio.wait_for(waiting, 10)

    asyncio.run(reserve())


def test_calls_get_room_in_the_budget_in_their_order(server):
    ledger = Ledger(Database(), "run", budget=1.0)

    async def reserve():
        first = await ledger.reserve("j", "first", 1.0, 600)
        large = asyncio.ensure_future(ledger.reserve("j", "large", 0.8, 600))
        await asyncio.sleep(0.05)
        small = asyncio.ensure_future(ledger.reserve("j", "small", 0.3, 600))
        await asyncio.sleep(0.05)
        with ledger.database.transaction() as books:
            ledger.settle(books, first, "j", {})
        held = await asyncio.wait_for(large, 10)
        assert not small.done(), "there is no room for both"
        with ledger.database.transaction() as books:
            ledger.settle(books, held, "j", {})
        assert await asyncio.wait_for(small, 10)

    asyncio.run(reserve())


def test_a_budget_needs_a_price(server):
    with pytest.raises(JudgeError, match=r"price of 'm'.*judging\.prices"):
        claude(spec=f"server:{server.url}#m", budget=1.0)
    judge = claude(spec=f"server:{server.url}#m", budget=1.0, prices={"m": (0, 0)})
    assert judge_all(judge, ["red"])[0].sufficient is True


def test_calls_with_a_lost_answer_count_at_their_highest_cost(server):
    judge = claude("run", retries=0)
    judge_all(judge, ["fault: dropped", "fault: 529", "fault: 401"])
    found = books("run")
    lost = [row for outcome, row in found.items() if outcome.startswith("no connection")]
    assert lost[0].at_risk > 0 and lost[0].cost == 0
    assert found["HTTP 529: OverloadedError"].at_risk == 0
    assert Ledger(Database(), "run").spent() == pytest.approx(lost[0].at_risk)


def test_malformed_answers_are_paid_too(server):
    passing, lasting = judge_all(claude("run"), ["red fault: empty x1", "fault: empty"])
    assert passing.sufficient is True and lasting.sufficient is None
    assert (passing.cost, lasting.cost) == pytest.approx((2 * 0.0015, 3 * 0.0015))
    assert books("run")["empty answer"].cost == pytest.approx(4 * 0.0015)
    assert Ledger(Database(), "run").spent() == pytest.approx(5 * 0.0015)


def judge_few_at_a_time(colours):
    judge_all(claude("run", concurrency=4), colours)


def test_after_kills_all_calls_are_in_the_books_and_no_known_verdict_is_asked_again(server):
    """Twenty kills at random moments, then a complete run.

    All verdicts are there, and no known verdict was asked for again.
    """
    server.delay = 0.05
    colours = [f"{'red' if n % 3 else 'blue'} {n}" for n in range(150)]
    draw, counts = random.Random(0), []
    usual = 0.3  # seconds from the fork to the first verdict
    for _ in range(20):
        child = forks.start(judge_few_at_a_time, colours)
        time.sleep(usual + draw.random() * 0.3)
        child.kill()
        child.join()
        if not any(counts) and usual < 3:  # a busy machine
            usual += 0.3
        counts.append(len(Database().rows("SELECT key FROM verdicts")))
    assert counts == sorted(counts), "no verdict is ever lost"
    asked = -1  # calls of the killed may reach a busy server late
    while (now := sum(server.asked.values())) != asked:
        asked = now
        time.sleep(1)
    known = Database().rows("SELECT count(*) FROM verdicts")[0][0]
    assert known > 0
    verdicts = judge_all(claude("run"), colours)
    assert [v.sufficient for v in verdicts] == ["red" in colour for colour in colours]
    assert sum(server.asked.values()) - asked == len(colours) - known
    found = books("run")
    assert found["verdict"].calls == len(colours)
    # What was asked more often than answered was in flight at a kill, and stands at its worst cost.
    lost = found["lost with its process"]
    assert sum(server.asked.values()) - len(colours) <= lost.calls and lost.at_risk > 0
    assert Database().rows("SELECT count(*) FROM reservations")[0][0] == 0


# ---- a run


def write_run(folder, observations, *overrides):
    """A run with one right trace per observation; returns the run."""
    run = open_run(folder, None, [f"filter.judge={JUDGE}", *overrides])
    with Journal(run.path("generate.jsonl")) as journal:
        for number, observation in enumerate(observations):
            question = QUESTION.model_copy(update={"id": f"q{number}"})
            text = render(observation, "So red.", "A")
            part = parse(text)
            trace = Trace(
                question_id=question.id, text=text, observation=part.observation,
                think=part.think, answer=part.answer, run=run.name, stage="cot",
            )  # fmt: skip
            case = Case(question=question, trace=trace)
            journal.append(question.id, case.model_dump(mode="json"))
    return run


JUDGE = "claude:claude-haiku-4-5"


def filter_run(run, *options):
    return run_cli(["filter", "--run", str(run.folder), *options])


def test_the_filter_stops_at_the_budget_and_continues_with_a_larger_one(server, tmp_path, capsys):
    run = write_run(tmp_path / "run", [f"red {n}" for n in range(30)])
    assert filter_run(run, "--budget", "0.02") == 2
    message = capsys.readouterr().err
    assert message.count("error:") == 1 and "--budget" in message and KEY not in message
    asked = sum(server.asked.values())
    assert 0 < asked * 0.0015 <= 0.02 and not (run.folder / "funnel.json").exists()
    assert filter_run(run, "--budget", "50") == 0
    table = json.loads((run.folder / "funnel.json").read_text())["table"]["all"]
    assert table["kept"] == 30 and set(server.asked.values()) == {1}
    assert sum(row.cost for row in spending(run)) == pytest.approx(30 * 0.0015)
    assert all(KEY.encode() not in f.read_bytes() for f in run.folder.rglob("*") if f.is_file())


def test_estimate_prices_the_filter_before_it_spends(server, tmp_path, capsys):
    run = write_run(tmp_path / "run", [f"red {n}" for n in range(30)] + ["red 0"])
    judge_all(claude(), [f"red {n}" for n in range(10)])
    assert filter_run(run, "--estimate") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert sum(server.asked.values()) == 10, "nothing was judged"
    assert "observations to judge 30" in shown and "already in the cache 10" in shown
    assert "counted by the server, n = 20" in shown and "mean of earlier calls) 100" in shown
    from p2r import stages

    (found,) = stages.estimate_filter(run)
    assert found.online == pytest.approx(20 * (found.input_tokens + 500) / 1e6, rel=0.01)
    assert found.batch == pytest.approx(found.online / 2)
    assert found.spent == 0 and found.worst > found.online


def test_estimate_of_panels_and_noisy_judges(server, tmp_path, capsys):
    from p2r import stages

    panel = f"panel:oracle,claude:claude-haiku-4-5,noisy:0.1:server:{server.url}#m,{JUDGE}"
    run = write_run(tmp_path / "panel", ["red", "blue"], f"filter.judge={panel}")
    found = {each.judge: each for each in stages.estimate_filter(run)}
    assert set(found) == {JUDGE, "server:m"} and not server.asked
    assert found[JUDGE].observations == 2 and found[JUDGE].online > 0
    assert found["server:m"].online is None and found[JUDGE].batch is None
    assert filter_run(run, "--estimate") == 0
    shown = capsys.readouterr().out
    assert "no known price" in shown and "--batch" not in shown
    free = write_run(tmp_path / "free", ["red"], "filter.judge=noisy:0.1:oracle")
    assert filter_run(free, "--estimate") == 0
    assert "judging is free" in capsys.readouterr().out


def test_status_shows_all_calls_and_those_without_a_price(server, tmp_path, capsys):
    run = write_run(tmp_path / "run", ["red", "red fault: refusal"], "judging.retries=0")
    assert status(run.folder)["judging"] == []
    assert filter_run(run) == 0
    assert "1 have no verdict: see p2r status" in capsys.readouterr().err
    report = status(run.folder)
    assert report["stages"]["filter"]["cost_usd"] == pytest.approx(0.0015)
    assert {row["outcome"]: row["calls"] for row in report["judging"]}["verdict"] == 1
    assert sum(row["cost"] for row in report["judging"]) == pytest.approx(0.003)
    judge = f"server:{server.url}#m"
    unpriced = write_run(tmp_path / "unpriced", ["red"], f"filter.judge={judge}")
    filter_run(unpriced)
    assert status(unpriced.folder)["stages"]["filter"]["unpriced"] == 1
    capsys.readouterr()
    assert run_cli(["status", str(unpriced.folder)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "calls without a known price: 1" in shown and "server:m verdict 1 1,000" in shown


def test_estimate_without_a_server_uses_characters(server, tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / "run", ["red"], "judging.retries=0")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    assert filter_run(run, "--estimate") == 0
    assert "estimated from characters" in " ".join(capsys.readouterr().out.split())


def test_filter_by_batches(server, tmp_path):
    run = write_run(
        tmp_path / "run", [f"red {n}" for n in range(12)] + ["blue", "red ends: expired"],
        "judging.batch_size=5", "judging.batch_poll=0.02",
    )  # fmt: skip
    assert filter_run(run, "--batch") == 0
    row = json.loads((run.folder / "funnel.json").read_text())["table"]["all"]
    assert (row["kept"], row["verdict unknown"], row["generated"]) == (12, 1, 14)
    assert sum(row.cost for row in spending(run)) == pytest.approx(13 * 0.00075)
    assert server.asked["red 0"] == 1 and not server.bodies, "nothing was asked online"


def test_the_books_of_a_run_move_with_its_folder(server, tmp_path):
    run = write_run(tmp_path / "run", ["red"])
    first = books_of(run)
    moved = tmp_path / "moved"
    run.folder.rename(moved)
    assert books_of(open_run(moved)) == first
    other = write_run(tmp_path / "run", ["red"])
    assert books_of(other) != first


def test_budgets_and_limits_may_change_in_a_run_but_the_judge_must_not(server, tmp_path, capsys):
    run = write_run(tmp_path / "run", ["red"])
    assert filter_run(run, "--budget", "5", "--set", "judging.concurrency=2") == 0
    assert load_recipe(run.folder / "recipe.yaml").judging.budget == 5
    assert filter_run(run, "--set", "judging.guidance=x") == 2
    assert "judging.guidance" in capsys.readouterr().err


def test_the_oracle_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("P2R_CACHE", str(tmp_path / "cache"))
    make_judge("oracle").judge([Question(id="q", problem="?", problem_type="OCR")], ["x"])
    assert not (tmp_path / "cache").exists()
