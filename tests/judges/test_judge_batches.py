"""Message Batches through the real client: sent, polled, recovered, and never paid twice."""

import os
import signal

import anthropic
import forks
import pytest
from judge_asking import QUESTION, claude, judge_all

from p2r.errors import JudgeError
from p2r.judges import make_judge
from p2r.judges.batches import BatchJudge
from p2r.judges.database import Database
from p2r.judges.estimate import estimate
from p2r.judges.ledger import Ledger
from p2r.judges.run_judge import judge_in_batches
from p2r.runs.recipe import JudgingSettings

pytestmark = pytest.mark.slow
pytest_plugins = ["judge_fixtures"]


def batched(run="", size=10_000, grace=0.3, **settings):
    return BatchJudge(claude(run, **settings), size, poll=0.02, grace=grace)


def calls(run=""):
    return {row.outcome: row.calls for row in Ledger(Database(), run).summary()}


def left():
    """Return the numbers of unfinished batches, reservations and replies."""
    tables = ("batches", "reservations", "replies")
    return [Database().rows(f"SELECT count(*) FROM {table}")[0][0] for table in tables]


def test_a_batch_is_sent_polled_and_read_at_half_the_price(server):
    server.progress = 3
    verdicts = judge_all(batched(), ["red ball", "a ball", "red ball", "mumble"])
    assert [v.sufficient for v in verdicts] == [True, False, True, None]
    assert verdicts[0].cost == pytest.approx(0.00075) and verdicts[0].usage["batch"] is True
    assert verdicts[2].cost == 0
    assert "no readable verdict" in verdicts[3].rationale
    assert len(server.batches) == 1 and sum(server.asked.values()) == 3
    assert calls() == {"verdict": 2, "no readable verdict (end)": 1}
    assert Ledger(Database()).spent() == pytest.approx(3 * 0.00075) and left() == [0, 0, 0]


def test_the_online_judge_and_the_batches_share_one_cache(server):
    judge_all(batched(), ["red 1"])
    assert judge_all(claude(), ["red 1", "red 2"])[0].usage == {"reused": True}
    assert judge_all(batched(), ["red 2"])[0].sufficient is True
    assert server.asked == {"red 1": 1, "red 2": 1}


def test_each_request_of_a_batch_may_end_differently(server):
    observations = [
        "red ends: expired x1",
        "red ends: overloaded_error x2",
        "red ends: expired",
        "red ends: invalid_request_error",
        "red ends: canceled",
        "red ends: missing",
        "red",
    ]
    verdicts = judge_all(batched(), observations)
    assert [v.sufficient for v in verdicts] == [True, True, None, None, None, None, True]
    assert "expired" in verdicts[2].rationale and "invalid_request_error" in verdicts[3].rationale
    assert "canceled" in verdicts[4].rationale and "no result" in verdicts[5].rationale
    assert server.asked["red ends: expired"] == 3 and server.asked["red ends: canceled"] == 1
    assert server.asked["red ends: invalid_request_error"] == 1
    assert sum(calls().values()) == sum(server.asked.values()) - 3, "the missing have no outcome"
    assert left() == [0, 0, 0]


def test_many_observations_go_in_parallel_batches(server):
    pairs = [(QUESTION, f"red {n}") for n in range(25)] + [(QUESTION, "red ends: expired x1")]
    settings = JudgingSettings(batch_size=10, batch_poll=0.02)
    judge = judge_in_batches(claude(), pairs, settings)
    assert [len(batch["requests"]) for batch in server.batches.values()] == [10, 10, 6, 1]
    verdicts = judge_all(judge, [observation for _, observation in pairs])
    assert all(v.sufficient for v in verdicts) and len(server.batches) == 4


def test_only_claude_has_batches(server):
    with pytest.raises(JudgeError, match="'oracle' has no batches"):
        judge_in_batches(make_judge("oracle"), [], JudgingSettings())
    local = claude(spec=f"messages:{server.url}#m", prices={"m": (1, 5)})
    with pytest.raises(JudgeError, match="'messages:m' has no batches"):
        judge_in_batches(local, [(QUESTION, "red")], JudgingSettings())
    assert not server.batches
    (found,) = estimate(local, [(QUESTION, "red")])
    assert found.counted and found.online > 0 and found.batch is None
    (found,) = estimate(claude(), [(QUESTION, "red")])
    assert found.batch == pytest.approx(found.online / 2)


@pytest.mark.parametrize("fault", ["unheard", "dropped", "529", "500", "429"])
def test_a_batch_whose_sending_failed_is_sent_once(server, fault):
    server.creations = [fault]
    verdicts = judge_all(batched(), ["red 1", "red 2"])
    assert all(v.sufficient for v in verdicts)
    assert len(server.batches) == 1 and left() == [0, 0, 0]


def test_a_refused_batch_gives_unknown_verdicts_with_the_reason(server):
    server.creations = ["400", "400"]
    (verdict,) = judge_all(batched(), ["red"])
    assert verdict.sufficient is None and "HTTP 400" in verdict.rationale
    assert Ledger(Database()).spent() == 0 and left() == [0, 0, 0]


def test_another_batch_of_the_same_size_is_not_mistaken_for_ours(server):
    other = batched("other run")
    judge_all(other, ["blue 1", "blue 2"])
    server.creations = ["unheard"]
    assert all(v.sufficient for v in judge_all(batched(), ["red 1", "red 2"]))
    assert len(server.batches) == 2


def test_a_batch_without_results_is_sent_again_and_counts_at_its_highest_cost(server):
    judge = batched()
    with judge.database.transaction() as books:
        held = judge.ledger.reserve_batch(books, judge.name, 1, 0.25, 60)
        row = ("t0", "batch_9", "", judge._judge, held, 1, 0.0)
        books.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    assert judge_all(judge, ["red"])[0].sufficient is True
    assert Ledger(Database()).spent() == pytest.approx(0.25 + 0.00075) and left() == [0, 0, 0]


def test_a_long_outage_stops_with_one_line_and_the_batch_is_found_later(server, monkeypatch):
    monkeypatch.setattr("p2r.judges.batch_server.PATIENCE", 1)
    judge = batched(retries=0)
    work = judge.server.api.retrieve

    async def away(*_, **__):
        raise anthropic.APIConnectionError(request=None)

    judge.server.api.retrieve = away
    with pytest.raises(JudgeError, match=r"\(APIConnectionError\): nothing is lost"):
        judge_all(judge, ["red"])
    judge.server.api.retrieve = work
    assert judge_all(batched(), ["red"])[0].sufficient is True and len(server.batches) == 1


# ---- not found now

MISSING = ["retrieve", "results", "no results_url", "cut results", "fewer results"]


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", MISSING)
def test_a_batch_that_is_not_found_for_a_while_is_neither_forgotten_nor_sent_again(
    server, fault, times, listed
):
    server.missing, server.listed = {fault: times}, listed
    verdicts = judge_all(batched(), ["red 1", "red 2"])
    assert all(v.sufficient for v in verdicts)
    assert server.missing == {fault: 0}, "the fault was met"
    assert len(server.batches) == 1 and calls() == {"verdict": 2}
    assert Ledger(Database()).spent() == pytest.approx(2 * 0.00075) and left() == [0, 0, 0]


@pytest.mark.parametrize("fault", ["retrieve", "results"])
def test_a_batch_that_stays_missing_is_kept_until_it_is_found(server, monkeypatch, fault):
    monkeypatch.setattr("p2r.judges.batch_server.PATIENCE", 2)
    server.missing, server.listed = {fault: 1000}, False
    judge = batched()
    for asked in (judge, judge, batched()):
        with pytest.raises(JudgeError, match=r"does not find batch batch_1 .* are not sent again"):
            judge_all(asked, ["red 1", "red 2"])
    assert len(server.batches) == 1 and left() == [1, 1, 0]
    server.missing = {}
    assert all(v.sufficient for v in judge_all(batched(), ["red 1", "red 2"]))
    assert len(server.batches) == 1 and left() == [0, 0, 0]


def test_a_missing_batch_does_not_hold_up_the_others(server, monkeypatch):
    monkeypatch.setattr("p2r.judges.batch_server.PATIENCE", 2)
    judge = batched(size=1)
    server.missing, server.listed = {"retrieve batch_1": 1000}, False
    with pytest.raises(JudgeError, match="batch_1"):
        judge_all(judge, ["red 1", "red 2"])
    assert left() == [1, 1, 1], "the reply of the second batch is kept"
    server.missing = {}
    assert all(v.sufficient for v in judge_all(batched(), ["red 1", "red 2"]))
    assert len(server.batches) == 2


# ---- killed


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def judge_and_die(moment):
    judge = batched("run")
    if moment == "before":  # the token is kept, nothing was sent
        judge.server.create = die
    elif moment == "between":  # received by the server, its id not kept
        judge._sent = die
    elif moment == "polling":
        judge.server.results = die
    elif moment == "reading":  # replies kept, not read yet
        resolve = judge._resolve
        judge._resolve = lambda *given: (
            die() if judge.database.rows("SELECT 1 FROM replies") else resolve(*given)
        )
    judge_all(judge, [f"red {n}" for n in range(5)])


@pytest.mark.parametrize("moment", ["before", "between", "polling", "reading"])
def test_a_kill_neither_loses_a_batch_nor_pays_it_twice(server, moment):
    server.progress = 1
    child = forks.start(judge_and_die, moment)
    child.join(600)
    assert child.exitcode == -signal.SIGKILL
    assert len(server.batches) == (moment != "before")

    verdicts = judge_all(batched("run"), [f"red {n}" for n in range(5)])
    assert all(v.sufficient for v in verdicts)
    assert len(server.batches) == 1 and set(server.asked.values()) == {1}
    assert calls("run")["verdict"] == 5
    assert Ledger(Database(), "run").spent() == pytest.approx(5 * 0.00075)
    assert left() == [0, 0, 0]


# ---- budget


def test_batches_stay_within_the_budget_and_continue_later(server):
    observations = [f"red {n}" for n in range(10)]
    worst = claude().worst("x" * 1900, batch=True)
    budget = 1.5 * worst
    with pytest.raises(JudgeError, match="to continue"):
        judge_all(batched("run", budget=budget), observations)
    spent = Ledger(Database(), "run").spent()
    # Batch after batch, each as large as its worst cost allows, until not one request fits.
    assert budget - worst < spent <= budget
    assert 1 <= sum(server.asked.values()) < 10
    verdicts = judge_all(batched("run", budget=1.0), observations)
    assert all(v.sufficient for v in verdicts) and set(server.asked.values()) == {1}
