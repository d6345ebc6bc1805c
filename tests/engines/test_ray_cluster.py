"""Generation and filtering on a local Ray cluster of two cores give the usual results."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
from poison import PoisonEngine
from scripted import WordJudge

from p2r.engines import Sampling
from p2r.engines.ray_cluster import RayPool, ray_map
from p2r.engines.responses import ResponseJournal
from p2r.engines.work_plan import WorkPlan
from p2r.files.journal import Journal, MergedJournal
from p2r.pipeline import filter_traces
from p2r.records import Case, Question, Trace
from p2r.runs import open_run
from p2r.template import render

pytestmark = pytest.mark.ray
ray = pytest.importorskip("ray", reason="Ray is not installed")
spread = partial(ray_map, pool=RayPool(actors=2, cpus=0.5, gpus=0))


def start_ray(attempts: int = 5) -> None:
    """Start Ray. Its processes wait 15 s for each other: too short on a busy machine, so retry."""
    for attempt in range(1, attempts + 1):
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
            return
        except Exception:  # Ray raises plain exceptions if a node does not start
            ray.shutdown()
            if attempt == attempts:
                raise


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Start a cluster whose workers can import this module and the test helpers."""
    here = Path(__file__).parent
    folders = (str(here), str(here.parent / "helpers"))
    kept = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (*folders, kept)))
    start_ray()
    yield
    ray.shutdown()
    os.environ["PYTHONPATH"] = kept


def write(folder: Path, questions: list[Question], **plan) -> tuple[dict, dict]:
    journal = ResponseJournal(folder / "generate.jsonl")
    folder.mkdir()
    journal.write(
        questions,
        PoisonEngine(),
        Sampling(),
        frames={},
        style="brief",
        trace_fields={},
        data_root=folder,
        plan=WorkPlan(make_model=PoisonEngine, **plan),
    )
    return dict(journal.records()), {error["key"]: error["reason"] for error in journal.errors()}


def ask(number: int, **special: str) -> list[Question]:
    return [
        Question(id=str(n), problem=special.get(f"q{n}", "?"), problem_type="OCR", answer="2")
        for n in range(number)
    ]


def test_generation_is_the_same_and_failures_in_a_batch_are_retried_alone(tmp_path):
    questions = ask(20, q3="crowd")
    alone = write(tmp_path / "alone", questions)
    assert len(alone[0]) == 20 and write(tmp_path / "ray", questions, spread=spread) == alone


@pytest.mark.parametrize("end", ["kill", "die"])
def test_a_sample_that_crashes_its_actor_or_engine_is_skipped(tmp_path, end):
    one = partial(ray_map, pool=RayPool(actors=1, cpus=0.5, gpus=0))  # what waits, waits at it
    answered, errors = write(tmp_path / "ray", ask(6, q2=end), spread=one, group=2)
    assert set(answered) == {f"{n}/0" for n in (0, 1, 3, 4, 5)}
    assert list(errors) == ["2/0"] and "retried alone" in errors["2/0"]


def test_filtering_is_the_same(tmp_path):
    tables, kept = [], []
    for name, plan in (
        ("here", WorkPlan()),
        ("ray", WorkPlan(spread=spread, make_model=WordJudge)),
    ):
        run = open_run(tmp_path / name, "tiny1")
        with Journal(run.path("generate.jsonl")) as journal:
            for n in range(90):
                question = Question(id=str(n), problem="?", problem_type="OCR", answer="stop")
                seen = "I see stop here." if n % 3 else ("Perhaps perhaps" if n % 2 else "Dark.")
                said = "stop" if n % 7 else "go"
                text = render(seen, "So.", said)
                trace = Trace(
                    question_id=str(n), text=text, observation=seen, think="So.", answer=said
                )
                record = Case(question=question, trace=trace).model_dump(mode="json")
                journal.append(f"{n}/0", record)
        tables.append(filter_traces(run.recipe, run, WordJudge(), plan))
        kept.append([json.loads(line) for line in run.path("sft.jsonl").read_text().splitlines()])
        outcomes = dict(MergedJournal(run.path("filter.jsonl")).records())
        kept.append(outcomes)
    assert tables[0] == tables[1] and kept[0] == kept[2] and kept[1] == kept[3]
    assert tables[0]["all"]["kept"] > 40


def test_an_error_in_a_worker_reaches_the_user():
    with pytest.raises(ValueError, match="no such judge"):
        list(ray_map(refuse, [1, 2], 1, RayPool(cpus=0.5, gpus=0)))


def refuse():
    def answer(messages: list) -> list:
        raise ValueError("no such judge")

    return answer
