"""`p2r eval rescore --reader`: a model on a real server reads result files."""

from __future__ import annotations

import json

import pytest

from p2r.cli import run_cli
from p2r.evaluation.benchmark import Item
from p2r.evaluation.results import Result, read_result, write_result

pytest_plugins = ["judge_fixtures"]
pytestmark = pytest.mark.slow
OPTIONS = ["A. red", "B. blue"]
CLAUDE = "claude:claude-haiku-4-5"


def thinking(identity: str, think: str, answer: str = "A") -> Item:
    """Return an item that has only an output with tags."""
    text = f"<observation>I see it.</observation> <think>{think}</think> <answer>{answer}</answer>"
    return Item(identity, text, "A", "multiple choice", OPTIONS, problem="Which?")


@pytest.fixture
def stored(tmp_path):
    """A result with four items: a match, a mismatch, no choice, and no thinking."""
    items = [thinking("1", "So it is A"), thinking("2", "So it is B"), thinking("3", "So No")]
    items.append(Item("4", "A", "A", "multiple choice", OPTIONS))
    return write_result(Result("mmvu", "ours", items), tmp_path / "mmvu.json")


def read(file, *more: str) -> int:
    return run_cli(["eval", "rescore", str(file), *more])


def test_thinking_is_read_once_and_the_report_has_it(stored, server, capsys):
    spec = f"server:{server.url}#any"
    before = read_result(stored)
    assert read(stored, "--reader", spec, "--json") == 0
    shown = capsys.readouterr()
    numbers = json.loads(shown.out)
    assert numbers["official"]["mean"] == 1.0, "scores do not change"
    assert numbers["reader"]["mismatch"]["mean"] == 0.5
    assert "replied to 3 of 3 prompts" in shown.err
    assert "1 × match, 1 × mismatch, 1 × no choice, 0 × unknown" in shown.err
    assert len(server.bodies) == 3 and "Which?" in server.bodies[0]["messages"][-1]["content"]
    after = read_result(stored)
    assert [item.stored.get("think choice") for item in after.items] == ["A", "B", "No", None]
    assert [item.output for item in after.items] == [item.output for item in before.items]
    assert run_cli(["eval", "--report", str(stored), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)["tables"]["6"]["measured"]
    rate = table["ours (read by server:any)"]["mismatch, mmvu"]
    assert rate["mean"] == 0.5 and rate["n"] == 2
    assert table["ours (by rule)"]["mismatch, mmvu"]["n"] >= 2
    assert read(stored, "--reader", spec) == 0
    assert len(server.bodies) == 3, "replies are cached"


def test_no_model_is_asked_without_the_option(stored, server):
    assert read(stored) == 0 and read(stored, "--out", str(stored.with_name("b.json"))) == 0
    assert not server.bodies and "reader" not in read_result(stored).made


def test_a_model_that_costs_needs_a_budget_and_keeps_it(stored, server, capsys):
    assert read(stored, "--reader", CLAUDE) == 2
    assert (
        "3 requests to claude:claude-haiku-4-5 may cost $" in capsys.readouterr().err
        and not server.bodies
    )
    assert read(stored, "--reader", CLAUDE, "--budget", "0.0071") == 2
    assert "budget of $0.0071 is reached" in capsys.readouterr().err
    paid = len(server.bodies)
    assert 0 < paid < 3
    assert read(stored, "--reader", CLAUDE, "--budget", "1") == 0
    assert len(server.bodies) == 3, "paid replies are not requested again"
    assert read_result(stored).made["reader"] == "claude:claude-haiku-4-5"


def test_failures_are_unknown_and_asked_again(tmp_path, server, capsys):
    items = [thinking("1", "fault: 400 x1 so A"), thinking("2", "fault: mumble B")]
    file = write_result(Result("mmvu", "ours", items), tmp_path / "r.json")
    spec = f"server:{server.url}#any"
    assert read(file, "--reader", spec) == 0
    assert "think-answer mismatch" not in capsys.readouterr().err
    assert read(file, "--reader", spec) == 0
    assert "1 × match" in capsys.readouterr().err
    assert [item.stored for item in read_result(file).items] == [{"think choice": "A"}, {}]


def test_tempcompass_is_rated_while_it_is_imported(tmp_path, server, capsys):
    choice = {"question": "What?\nA. red\nB. left", "answer": "A. red"}
    caption = {"question": "Information A: red\nGenerated Caption:", "answer": "A. red"}
    said = {
        "multi-choice": [{**choice, "prediction": p} for p in ("A", "it is red", "so left")],
        "captioning": [{**caption, "prediction": p} for p in ("a red one", "a dog", None)],
    }
    folder = tmp_path / "predictions"
    folder.mkdir()
    for task, records in said.items():
        (folder / f"{task}.json").write_text(json.dumps({"1": {"action": records}}))
    out = tmp_path / "out.json"
    command = ["eval", "--import", "tempcompass", str(folder), "--benchmark", "tempcompass"]
    spec = f"messages:{server.url}#any"
    assert run_cli([*command, "--out", str(out), "--reader", spec, "--json"]) == 0
    shown = capsys.readouterr()
    parts = json.loads(shown.out)["official"]["parts"]
    assert (parts["multi-choice"]["mean"], parts["multi-choice"]["n"]) == (pytest.approx(2 / 3), 3)
    assert (parts["captioning"]["mean"], parts["captioning"]["n"]) == (pytest.approx(1 / 3), 3)
    assert "4 rated, 0 not" in shown.err and len(server.bodies) == 4
    assert read(out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["official"]["parts"] == parts, "it is stored"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--reader", "oracle"], "cannot answer a prompt"),
        (["--reader", "nobody"], "no judge 'nobody'"),
        (["--budget", "3"], "--budget with --reader"),
    ],
)
def test_invalid_readers(more, reason, stored, capsys):
    assert read(stored, *more) == 2
    assert reason in capsys.readouterr().err


def test_a_reader_needs_something_to_read(tmp_path, capsys):
    assert run_cli(["eval", "--run", str(tmp_path), "--model", "m", "--reader", "claude"]) == 2
    assert "--reader goes with" in capsys.readouterr().err
