"""Generate and filter are killed at random moments and resumed: nothing is lost or done twice.

(SFT and RL are killed in test_sft.py and test_grpo.py.)
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import forks
import pytest
from small import read_lines

from p2r.cli import run_cli
from p2r.playground.language import Facts, tell
from p2r.playground.splits import make_question
from p2r.playground.world import Scene
from p2r.records import Case, Question, Trace
from p2r.runs.recipe import load_recipe
from p2r.template import render

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
NUMBER = 120
random.seed()


def p2r(*arguments: str) -> BaseProcess:
    """Run the command in a subprocess."""
    return forks.start(run_cli, list(arguments))


def finish(*arguments: str) -> None:
    """Run the command in this OS process, which has the libraries already."""
    assert run_cli(list(arguments)) == 0


def kill_when(child: BaseProcess, moment: Callable[[], bool]) -> bool:
    """Kill a subprocess at a moment. Returns False if it ended before."""
    end = time.monotonic() + 600
    try:
        while child.exitcode is None:
            assert time.monotonic() < end, "the moment to kill the subprocess does not come"
            if moment():
                return True
            time.sleep(0.005)
    finally:
        child.kill()
        child.join()
    return False


def count_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


@pytest.fixture(scope="module")
def many(questions) -> list[Question]:
    return [
        questions[n % 4].model_copy(update={"id": f"q{n}", "problem": f"How many of {n}?"})
        for n in range(NUMBER)
    ]


def test_generate_is_killed_and_resumed(tmp_path, many, media, model_folder):
    file, run = tmp_path / "q.jsonl", tmp_path / "run"
    file.write_text("".join(question.model_dump_json() + "\n" for question in many))
    command = [
        *("generate", "--run", str(run), "--questions", str(file), "--data-root", str(media)),
        *("--set", f"models.teacher={model_folder}", "--set", "generate.batch_size=4"),
        *("--set", "generate.max_tokens=8", "--set", "threads=1"),
    ]
    journal = run / "generate.jsonl"
    wanted = random.randrange(1, NUMBER - 20)
    assert kill_when(p2r(*command), lambda: count_lines(journal) >= wanted)
    before = journal.read_bytes()
    finish(*command)
    after = journal.read_bytes()
    assert after.startswith(before[: before.rfind(b"\n") + 1]), "finished records must not change"
    keys = [line["key"] for line in read_lines(journal)]
    assert len(keys) == NUMBER and set(keys) == {f"q{n}/0" for n in range(NUMBER)}
    finish(*command)
    assert journal.read_bytes() == after, "a finished stage must not change"


def write_traces(run: Path) -> None:
    """Write a run with right answers; every second observation is insufficient."""
    run.mkdir()
    (run / "recipe.yaml").write_text(load_recipe("tiny1").to_yaml())
    with (run / "generate.jsonl").open("w") as journal:
        for n in range(4 * NUMBER):
            question = make_question("train", n)
            facts = Facts.of(Scene.from_dict(question.meta["scene"]))
            seen = " ".join(tell(fact) for fact in facts.objects) if n % 2 else "It is dark."
            text = render(seen, "So it is.", question.answer)
            trace = Trace(
                question_id=question.id,
                text=text,
                observation=seen,
                think="So it is.",
                answer=question.answer,
                stage="cot",
            )
            record = Case(question=question, trace=trace).model_dump(mode="json")
            journal.write(json.dumps({"key": f"{question.id}/0", "record": record}) + "\n")


def test_filter_is_killed_and_resumed(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for run in (killed, whole):
        write_traces(run)
    finish("filter", "--run", str(whole))
    assert NUMBER < count_lines(whole / "sft.jsonl") <= 2 * NUMBER

    started = time.monotonic()
    moment = random.uniform(0.2, 2.5)
    kill_when(p2r("filter", "--run", str(killed)), lambda: time.monotonic() - started > moment)
    finish("filter", "--run", str(killed))
    for name in ("sft.jsonl", "cases/cot.jsonl", "funnel.json"):
        assert (killed / name).read_text() == (whole / name).read_text()
    keys = [line["key"] for line in read_lines(killed / "filter.jsonl")]
    assert len(keys) == len(set(keys))


def test_killed_runs_have_the_outcomes_of_an_uninterrupted_run(tmp_path):
    """`benchmarks/kills.py` compares them (by default 400 records after 20 kills of each stage)."""
    script = Path(__file__).parents[2] / "benchmarks" / "kills.py"
    options = ("--kills", "1", "--records", "120", "--json")
    said = tmp_path / "log"
    assert forks.script(script, *options, log=said) == 0, said.read_text()
    found = json.loads(said.read_text().splitlines()[-1])
    assert found["generate_kills"] == found["filter_kills"] == 1
    assert found["generate_equal"] and found["filter_equal"] and found["none_asked_again"]
