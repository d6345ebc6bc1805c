"""A poison sample crashes a run at most once, and every other sample is answered once."""

from __future__ import annotations

import multiprocessing
import signal
import time

import pytest
from poison import PoisonEngine

from p2r.engines import Sampling
from p2r.engines.crash_recovery import MAX_CRASHES_ALONE, InProgress, Watchdog
from p2r.engines.responses import ResponseJournal
from p2r.engines.work_plan import WorkPlan
from p2r.errors import EngineDied, EngineError
from p2r.files.journal import Shard
from p2r.files.own_process import claim_process
from p2r.records import Question

pytestmark = pytest.mark.slow


def ask(number: int, **special: str) -> list[Question]:
    return [
        Question(id=str(n), problem=special.get(f"q{n}", "What?"), problem_type="OCR", answer="2")
        for n in range(number)
    ]


def write(folder, questions, engine=None, samples=1, patience=60.0, **plan) -> None:
    ResponseJournal(folder / "generate.jsonl").write(
        questions,
        engine or PoisonEngine(),
        Sampling(),
        frames={},
        style="brief",
        trace_fields={},
        data_root=folder,
        samples=samples,
        plan=WorkPlan(patience=patience, **plan),
    )


def command(*given, **how) -> None:
    """Write as the command line does, in an OS process of its own."""
    claim_process()
    write(*given, **how)


def run(folder, questions, **how) -> int:
    """Run `command` in an OS process and return its exit code."""
    child = multiprocessing.get_context("fork").Process(
        target=command, args=(folder, questions), kwargs={"make_model": PoisonEngine, **how}
    )
    child.start()
    child.join(300)
    assert not child.is_alive()
    return child.exitcode


def ends(folder) -> tuple[set[str], dict[str, str]]:
    journal = ResponseJournal(folder / "generate.jsonl")
    errors = {error["key"]: error["reason"] for error in journal.errors()}
    return {key for key, _ in journal.records()}, errors


def test_a_sample_that_crashes_the_run_is_skipped_by_the_next_start(tmp_path):
    questions = ask(9, q2="kill", q6="kill")
    assert run(tmp_path, questions) == -signal.SIGKILL
    assert run(tmp_path, questions) == -signal.SIGKILL, "the second one was not in flight before"
    assert run(tmp_path, questions) == 0
    answered, errors = ends(tmp_path)
    assert answered == {f"{n}/0" for n in (0, 1, 3, 4, 5, 7, 8)}
    assert set(errors) == {"2/0", "6/0"}
    assert all("crashed: Killed" in reason for reason in errors.values())
    assert not (tmp_path / "generate.inflight.jsonl").exists()
    assert run(tmp_path, questions) == 0


@pytest.mark.parametrize("make_model", [PoisonEngine, None], ids=["in a subprocess", "here"])
def test_a_sample_that_crashes_the_engine_stops_the_run_once(tmp_path, make_model):
    """vLLM runs its engine in an OS process of its own, so only the engine dies."""
    questions = ask(9, q2="die", q6="die")
    for _ in range(2):  # the second one was not in flight before
        with pytest.raises(EngineDied):
            write(tmp_path, questions, make_model=make_model)
    write(tmp_path, questions, make_model=make_model)
    answered, errors = ends(tmp_path)
    assert answered == {f"{n}/0" for n in (0, 1, 3, 4, 5, 7, 8)}
    assert set(errors) == {"2/0", "6/0"}
    assert all("engine died" in why and "out of memory" in why for why in errors.values())
    assert not (tmp_path / "generate.inflight.jsonl").exists()


def test_a_users_error_makes_no_suspects(tmp_path):
    class Refused(PoisonEngine):
        def generate(self, requests, sampling):
            next(iter(requests))
            raise EngineError("the key was refused")
            yield

    with pytest.raises(EngineError):
        write(tmp_path, ask(3), Refused())
    assert not (tmp_path / "generate.inflight.jsonl").exists()


def test_a_sample_that_hangs_ends_the_run_once_and_is_skipped(tmp_path):
    questions = ask(3, q1="hang")
    assert run(tmp_path, questions, patience=5.0) == 75
    assert run(tmp_path, questions, patience=5.0) == 0
    answered, errors = ends(tmp_path)
    assert answered == {"0/0", "2/0"} and "no answer within 5 s" in errors["1/0"]


def test_a_hang_never_ends_a_program_that_uses_the_library(caplog):
    """Such as a notebook kernel."""
    with Watchdog(0.2, "generate"):
        time.sleep(0.7)
    said = [r.message for r in caplog.records if "no answer for 0.2 s" in r.message]
    assert len(said) >= 2 and "the same call resumes" in said[0]


def test_suspects_that_are_not_the_cause_are_answered(tmp_path):
    """For example after a power cut."""
    (tmp_path / "generate.inflight.jsonl").write_text('\n{"begin": ["0/0", "1/0"]}\n{"begin": ["2')
    write(tmp_path, ask(3), make_model=PoisonEngine)
    assert ends(tmp_path) == ({"0/0", "1/0", "2/0"}, {})


def test_a_request_that_fails_in_a_batch_is_retried_alone(tmp_path):
    engine = PoisonEngine()
    write(tmp_path, ask(4, q1="crowd"), engine)
    assert ends(tmp_path) == ({f"{n}/0" for n in range(4)}, {})
    assert engine.asked.count("1/0") == 2 and engine.asked.count("0/0") == 1


def test_a_sample_that_is_alone_in_several_crashes_is_skipped(tmp_path):
    """A container that runs out of memory kills the run and its subprocess."""
    line = '\n{"begin": ["1/0"], "alone": true}'
    (tmp_path / "generate.inflight.jsonl").write_text(line * (MAX_CRASHES_ALONE - 1))
    write(tmp_path, ask(3), make_model=PoisonEngine)
    assert ends(tmp_path)[1] == {}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "generate.inflight.jsonl").write_text(line * MAX_CRASHES_ALONE)
    write(tmp_path / "other", ask(3), make_model=PoisonEngine)
    answered, errors = ends(tmp_path / "other")
    assert answered == {"0/0", "2/0"} and "crashed 3 times on this sample alone" in errors["1/0"]


def test_an_interrupt_makes_no_suspects_and_keeps_the_old_ones(tmp_path):
    path = tmp_path / "x.inflight.jsonl"
    path.write_text('\n{"begin": ["a", "b"]}')
    try:
        with InProgress(path, lambda key: False) as in_progress:
            in_progress.begin(["c"])
            in_progress.finish("a")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert InProgress(path, lambda key: False).suspects == ["b"]


def test_several_samples_of_a_question_have_an_outcome_each(tmp_path):
    write(tmp_path, ask(3), samples=4)
    assert ends(tmp_path)[0] == {f"{q}/{n}" for q in range(3) for n in range(4)}
    rollouts = [case.trace.rollout for case in ResponseJournal(tmp_path / "generate.jsonl").cases()]
    assert sorted(rollouts) == sorted([0, 1, 2, 3] * 3)


def test_shards_share_the_work_and_are_read_as_one(tmp_path):
    engines = [PoisonEngine() for _ in range(3)]
    for place, engine in enumerate(engines):
        write(tmp_path, ask(30), engine, shard=Shard.parse(f"{place}/3"))
    asked = [set(engine.asked) for engine in engines]
    assert set.union(*asked) == ends(tmp_path)[0] == {f"{n}/0" for n in range(30)}
    assert sum(map(len, asked)) == 30 and all(asked)
    late = PoisonEngine()
    write(tmp_path, ask(30), late)
    assert late.asked == []
