"""`p2r eval run` in parts: by hand or with --parallel; the results are those of one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2r.cli import run_cli
from p2r.cli.parallel import divide_machine, without_option
from p2r.errors import UserError

pytest_plugins = ["small_fixtures"]


def test_the_subprocesses_do_not_start_others():
    given = ["eval", "run", "--parallel", "2", "--run", "x", "--parallel=3"]
    assert without_option(given) == ["eval", "run", "--run", "x"]


def test_every_part_has_its_gpus(monkeypatch):
    found = divide_machine(2, {"CUDA_VISIBLE_DEVICES": "4,5,6,7,8"})
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["4,5", "6,7"]
    with pytest.raises(UserError, match="there are 1 GPUs"):
        divide_machine(2, {"CUDA_VISIBLE_DEVICES": "4"})
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert divide_machine(4, {"CUDA_VISIBLE_DEVICES": ""}) == [{"OMP_NUM_THREADS": "2"}] * 4
    assert (
        divide_machine(2, {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"})
        == [{"OMP_NUM_THREADS": "1"}] * 2
    )


def read_results(folder: Path) -> list[dict]:
    found = json.loads((folder / "results" / "m.json").read_text())
    return [{key: item[key] for key in ("id", "output", "truth")} for item in found["items"]]


class HereInTurn:
    """Runs `python -m p2r …` in this OS process, in place of a subprocess."""

    def __init__(self, command: list[str], **_: object) -> None:
        assert command[1:3] == ["-m", "p2r"]
        self.code = run_cli(command[3:])

    def wait(self) -> int:
        return self.code


@pytest.mark.slow
def test_parts_are_merged(model_folder, media, questions, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", HereInTurn)
    asked = tmp_path / "questions.jsonl"
    asked.write_text("".join(question.model_dump_json() + "\n" for question in questions))

    def run(name: str, *more: str) -> int:
        where = ["--run", str(tmp_path / name), "--questions", str(asked), "--name", "m"]
        settings = ["--set", "eval.max_tokens=4", "--set", "eval.batch_size=1", "--judge", "none"]
        media_folder = ["--model", str(model_folder), "--data-root", str(media)]
        return run_cli(["eval", "run", *where, *media_folder, *settings, *more])

    assert run("whole") == 0
    whole = read_results(tmp_path / "whole")
    assert len(whole) == len(questions)
    assert run("parts", "--shard", "0/2") == 0
    assert "this part is answered" in capsys.readouterr().out
    files = sorted(path.name for path in (tmp_path / "parts" / "eval").glob("m.*jsonl"))
    assert "m.shard-0of2.jsonl" in files and not (tmp_path / "parts" / "results").exists()
    assert run_cli(["status", str(tmp_path / "parts")]) == 0
    assert "eval m" in capsys.readouterr().out
    assert run("parts", "--parallel", "2") == 0
    assert read_results(tmp_path / "parts") == whole
    assert run("parts", "--parallel", "2", "--shard", "0/2") == 2
    assert "leave out --shard and --ray" in capsys.readouterr().err
