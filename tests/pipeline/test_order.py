"""The SFT set has one order, however often generation was stopped and divided."""

from __future__ import annotations

import pytest
from scripted import ScriptedEngine, WordJudge

from p2r.engines.transformers import TransformersEngine
from p2r.engines.work_plan import WorkPlan
from p2r.files.journal import Shard
from p2r.pipeline import filter_traces, generate_traces, read_kept
from p2r.pipeline.order import ordered_records
from p2r.records import Question
from p2r.runs import open_run
from p2r.template import render

pytest_plugins = ["small_fixtures"]
ASKED = [
    Question(id=f"q{n}", problem="?" * (1 + n % 3), problem_type="numerical", answer="2")
    for n in range(12)
]


class Sorting(ScriptedEngine):
    """Sorts windows of 4 requests by length, as the engine of transformers does."""

    window = 4

    def __init__(self, stop_at: str = "") -> None:
        super().__init__(lambda question: render("I see 2 balls.", "So 2.", "2"))
        self.stop_at = stop_at

    def generate(self, requests, sampling):
        left = list(requests)
        for start in range(0, len(left), self.window):
            window = left[start : start + self.window]
            window.sort(key=lambda request: len(request.question.problem), reverse=True)
            for request in window:
                if request.key == self.stop_at:
                    raise KeyboardInterrupt
                yield from super().generate([request], sampling)


def generate(run, root, engine=None, **how):
    return generate_traces(run.recipe, ASKED, engine or Sorting(), run, root, **how)


def kept(run) -> list[str]:
    filter_traces(run.recipe, run, WordJudge())
    return [case.question.id for case in read_kept(run)]


@pytest.fixture
def whole(tmp_path):
    run = open_run(tmp_path / "whole", "tiny1")
    journal = generate(run, tmp_path)
    written = [case.question.id for case in journal.cases()]
    assert kept(run) == written, "an uninterrupted run has the order of writing"
    return written


def test_a_stopped_and_resumed_generation_gives_the_same_order(tmp_path, whole):
    run = open_run(tmp_path / "run", "tiny1")
    with pytest.raises(KeyboardInterrupt):
        generate(run, tmp_path, Sorting(stop_at=f"{whole[5]}/0"))
    assert kept(run) == whole[:5]
    journal = generate(run, tmp_path)
    assert [case.question.id for case in journal.cases()] != whole
    assert kept(run) == whole


def test_shards_give_the_same_order(tmp_path, whole):
    run = open_run(tmp_path / "run", "tiny1")
    for index in (1, 0):
        generate(run, tmp_path, plan=WorkPlan(shard=Shard(index, 2)))
    assert kept(run) == whole


def test_a_journal_of_an_older_version_keeps_its_order(tmp_path, whole):
    run = open_run(tmp_path / "whole")
    run.path("generate.order.json").unlink()
    written = run.path("generate.jsonl").read_text().splitlines(keepends=True)
    run.path("generate.jsonl").write_text("".join(reversed(written)))
    generate(run, tmp_path)
    assert kept(run) == whole[::-1]


@pytest.mark.slow
def test_the_order_is_that_of_the_engine_of_transformers(tmp_path, questions, media, model_folder):
    broken = Question(id="b", problem="?", path="broken.mp4", problem_type="OCR", answer="2")
    copies = [(q, n) for n in range(3) for q in questions]
    asked = [q.model_copy(update={"id": f"{q.id}{n}"}) for q, n in copies]
    run = open_run(tmp_path / "run", "tiny1", ["generate.max_tokens=2"])
    engine = TransformersEngine(str(model_folder), dtype="float32", batch_size=1)
    journal = generate_traces(run.recipe, [broken, *asked], engine, run, media)
    written = [key for key, _ in journal.records()]
    assert len(written) == len(asked) > engine.window
    assert [key for key, _ in ordered_records(journal)] == written != [f"{q.id}/0" for q in asked]
