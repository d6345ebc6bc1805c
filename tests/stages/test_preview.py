"""The plan of a stage: what it would do, what an earlier stage still has to make, what is wrong."""

from __future__ import annotations

import pytest
from case_records import make_case

from p2r.errors import EngineError, UserError
from p2r.runs import preview_run
from p2r.stages import preview


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    return lambda *settings: preview_run(tmp_path / "run", "tiny", settings)


def test_a_new_run_is_planned_and_not_made(run):
    plan = "\n".join(preview.preview_generate(run("generate.questions=5")))
    for part in ("(new), recipe tiny", "of the playground", "at most 5 questions", "engine trans"):
        assert part in plan
    assert "playground/second/teacher" in plan and not run().folder.exists()


def test_what_an_earlier_stage_makes_is_a_note(run):
    assert "no traces yet: p2r generate" in preview.preview_filter(run())
    assert any("no traces yet: p2r filter" in line for line in preview.preview_sft(run()))
    plan = "\n".join(preview.preview_evaluation(run(), "pa_grpo"))
    assert "not trained yet" in plan and "judge: oracle" in plan


def test_the_traces_and_their_media_are_counted(run, tmp_path):
    lost, there = make_case(0), make_case(1, question_path="1.mp4")
    for case in (lost, there):
        case.trace.think, case.trace.answer = "It moves.", "A"
    file = tmp_path / "traces.jsonl"
    file.write_text("".join(case.model_dump_json() + "\n" for case in (lost, there)))
    (tmp_path / "1.mp4").touch()
    plan = "\n".join(preview.preview_sft(run("sft.batch_size=4", "sft.accumulation=2"), file))
    for part in ("2 traces of", "1 of 2 have their media", "no file clips/0.mp4"):
        assert part in plan
    assert "each update: 4 examples × 2 passes × 1 worker(s)" in plan


def test_a_key_that_is_not_set_is_a_note(run):
    plan = preview.preview_filter(run("filter.judge=claude", "judging.budget=5"))
    assert "budget: $5" in plan[2] and "ANTHROPIC_API_KEY" in plan[-1]


def test_mistakes_are_errors(run, tmp_path):
    with pytest.raises(UserError, match=r"set filter\.judge to a judge"):
        preview.preview_filter(run("filter.judge=none"))
    with pytest.raises(EngineError, match="no model 'bases': give a stage of the run"):
        preview.preview_sft(run("models.base=bases"))
    with pytest.raises(UserError, match="is not a folder"):
        preview.preview_generate(run(), tmp_path / "q.jsonl", tmp_path / "lost")
    with pytest.raises(UserError, match="makes no playground questions"):
        preview.preview_demo(preview_run(tmp_path / "other", "7b"))
    with pytest.raises(UserError, match="does not exist"):
        preview.preview_study(run(), ("a", "b"), (0, 1))
