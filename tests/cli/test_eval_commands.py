"""The subcommands of `p2r eval`, and the old spelling with options in their place."""

from __future__ import annotations

import json

import pytest

from p2r.cli import run_cli
from p2r.cli.eval_options import translate
from p2r.errors import UserError

COMMANDS = ("run", "check", "import", "rescore", "compare", "report", "transfer")


@pytest.fixture
def files(tmp_path):
    """Questions of MMVU, and the outputs of two models for them."""
    asked = [
        {"id": str(k), "question": "Which?", "choices": {"A": "x", "B": "y"}, "answer": "B"}
        for k in range(4)
    ]
    (tmp_path / "validation.json").write_text(json.dumps(asked))
    for name, said in (("a", "ABBA"), ("b", "BBBB")):
        records = [{"id": str(k), "output": letter} for k, letter in enumerate(said)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
    return tmp_path


def shown(capsys, *arguments) -> str:
    """Return what `p2r eval` prints for these arguments."""
    assert run_cli(["eval", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command, capsys):
    assert f"Example: p2r eval {command} " in shown(capsys, command, "--help")


def test_help_lists_the_commands_and_not_the_old_options(capsys):
    text = shown(capsys, "--help")
    assert all(f"  {command} " in text for command in COMMANDS)
    assert "--rescore" not in text and "--compare" not in text


def test_every_command_gives_the_same_as_the_old_spelling(files, capsys):
    asked = ["--benchmark", "mmvu", "--questions", files / "validation.json"]
    new = shown(capsys, "check", *asked, "--json")
    assert json.loads(new)["questions"] == 4
    assert new == shown(capsys, "--check", *asked, "--json")
    results = []
    for name in ("a", "b"):
        outputs, out = files / f"{name}.jsonl", files / f"{name}.json"
        results.append(out)
        more = [*asked, "--out", out, "--json"]
        new = shown(capsys, "import", "jsonl", outputs, *more)
        assert json.loads(new)["official"]["n"] == 4
        assert new == shown(capsys, "--import", "jsonl", outputs, *more)
        assert new == shown(capsys, "rescore", out, "--json")
        assert new == shown(capsys, "--json", "--rescore", out)
    new = shown(capsys, "compare", *results, "--json")
    assert json.loads(new)["official"]["difference"]["mean"] == 0.5
    assert new == shown(capsys, "--compare", *results, "--json")
    new = shown(capsys, "report", *results, "--json")
    assert set(json.loads(new)["tables"]["1"]["measured"]) == {
        f"{name} ({extractor})" for name in "ab" for extractor in ("official", "robust")
    }
    assert new == shown(capsys, "--report", results[0], "--report", results[1], "--json")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--run x --model m --direct", "run --run x --model m --direct"),
        ("--run x --transfer a.json --model m", "transfer --run x --model m a.json"),
        ("--report a --json --report b", "report --json a b"),
        ("--rescore=a --reader j", "rescore --reader j a"),
    ],
)
def test_translation_of_the_old_spelling(old, new):
    assert translate(old.split()) == new.split()


def test_two_commands_at_once_are_refused():
    with pytest.raises(UserError, match="--rescore and --compare cannot go together"):
        translate(["--rescore", "a", "--compare", "b", "c"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rescore", "a.json", "--budget", "3"], "give --budget with --reader"),
        (["import", "jsonl", "a.jsonl", "--out", "x"], "Missing option '--benchmark'"),
        (["run", "--run", "x"], "Missing option '--model'"),
        (["compare", "a.json"], "Missing argument 'B'"),
        (["measure"], "No such command 'measure'"),
    ],
)
def test_errors_name_what_is_missing(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_cli(["eval", *arguments]) == 2
    assert message in capsys.readouterr().err
