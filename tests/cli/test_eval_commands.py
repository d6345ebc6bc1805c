"""The subcommands of `p2r eval`, and the old spelling with options in their place."""

from __future__ import annotations

import json

import pytest

from p2r.cli import run_cli
from p2r.cli.eval_options import translate
from p2r.cli.evaluate import print_manifest
from p2r.errors import UserError
from p2r.evaluation.questions import Manifest

COMMANDS = ("run", "list", "check", "import", "rescore", "compare", "report", "transfer")


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


def shown(capsys, *arguments, code: int = 0) -> str:
    """Return what `p2r eval` prints for these arguments."""
    assert run_cli(["eval", *map(str, arguments)]) == code
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command, capsys):
    assert f"Example: p2r eval {command} " in shown(capsys, command, "--help")


def test_help_lists_the_commands_and_not_the_old_options(capsys):
    text = shown(capsys, "--help")
    assert all(f"  {command} " in text for command in COMMANDS)
    assert "--rescore" not in text and "--compare" not in text


def test_the_list_shows_what_a_download_needs(capsys):
    text = " ".join(shown(capsys, "list", "mmvu", "vsibench").split())
    assert "hub yale-nlp/MMVU: validation.json and the videos" in text
    assert "licence Apache-2.0 (annotations and clips)" in text
    facts = json.loads(shown(capsys, "list", "--json"))
    assert {"playground", "vcrbenchall", "mmvu"} <= facts.keys()
    assert facts["lvbench"]["questions"] == "1,549: all questions"
    assert all(all(fact.values()) for fact in facts.values())


def test_the_list_refuses_an_unknown_name(capsys):
    assert run_cli(["eval", "list", "nope"]) == 2
    assert "no benchmark 'nope'" in capsys.readouterr().err


def test_every_command_gives_the_same_as_the_old_spelling(files, capsys):
    asked = ["--benchmark", "mmvu", "--questions", files / "validation.json"]
    new = shown(capsys, "check", *asked, "--json", code=1)  # 4 of 625 questions
    assert json.loads(new)["questions"] == 4
    assert new == shown(capsys, "--check", *asked, "--json", code=1)
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


ODD = "\x1b[2J\u202ex"


@pytest.fixture
def odd_files(tmp_path, capsys):
    """Questions, outputs and a result whose ids, name and answers hold control characters."""
    asked = [{"id": f"{k}{ODD}", "question": f"Which{k}?", "choices": ["x", "y"]} for k in range(3)]
    said = [{**one, "answer": "B", "output": "A"} for one in asked]
    (tmp_path / "questions.json").write_text(json.dumps(asked))
    (tmp_path / "outputs.json").write_text(json.dumps([*said, *said]))
    files = ["jsonl", str(tmp_path / "outputs.json"), "--benchmark", "mmvu", "--name", ODD]
    shown(capsys, "import", *files, "--out", str(tmp_path / "result.json"), "--json")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "check --benchmark mmvu --questions questions.json",
        "import jsonl outputs.json --benchmark mmvu --out new.json",
        "rescore result.json",
        "rescore result.json --json",
        "compare result.json result.json",
        "report result.json",
    ],
)
def test_control_characters_of_files_are_written_out(command, odd_files, capsys, monkeypatch):
    monkeypatch.chdir(odd_files)
    # The questions are 3 of 625, so their check fails.
    assert run_cli(["eval", *command.split()]) == int(command.startswith("check"))
    printed = "".join(capsys.readouterr())
    assert "\x1b" not in printed and "\u202e" not in printed
    assert "[U+001B" in printed, "the command shows none of them"


def test_the_manifest_of_a_measurement_is_written_out_too(capsys):
    print_manifest(Manifest("mmvu", 1, None, {"bad record": 1}, {"bad record": [ODD]}))
    assert "[U+001B][2J[U+202E]x" in capsys.readouterr().err


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
