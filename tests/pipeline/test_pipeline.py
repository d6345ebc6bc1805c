"""Generate and filter: nothing is lost, nothing is asked twice, and the funnel adds up."""

from __future__ import annotations

import gc
import json

import pytest
from scripted import ScriptedEngine, WordJudge

from p2r.cases.store import CaseStore, Filters
from p2r.engines.responses import ResponseJournal
from p2r.errors import EngineError, UserError
from p2r.formats import read_cases
from p2r.pipeline import collect_cases, filter_traces, generate_traces, read_kept
from p2r.records import Question
from p2r.runs import open_run, read_json
from p2r.template import render

pytest_plugins = ["small_fixtures"]
# What the teacher says to each question; all answers are "2".
SAID = {
    "long": render("I see 2 balls.", "So 2.", "2"),
    "twin": render("I see balls.", "So 2.", "2"),
    "short": render("I see 2 balls.", "So 3.", "3"),
    "still": "2",
    "text": render("There are perhaps some.", "So 2.", "2"),
}


@pytest.fixture
def run(tmp_path):
    return open_run(tmp_path / "run", "tiny1")


def teacher(**said: str) -> ScriptedEngine:
    return ScriptedEngine(lambda question: {**SAID, **said}[question.id])


def generate(run, questions, media, engine=None) -> ResponseJournal:
    return generate_traces(run.recipe, questions, engine or teacher(), run, media)


def test_one_trace_per_question_with_how_it_was_made(run, questions, media):
    cases = {case.question.id: case for case in generate(run, questions, media).cases()}
    assert list(cases) == [q.id for q in reversed(questions)], "in the order of answering"
    trace = cases["long"].trace
    assert (trace.observation, trace.think, trace.answer) == ("I see 2 balls.", "So 2.", "2")
    assert (trace.model, trace.run, trace.stage) == ("scripted", "run", "cot")
    assert trace.media["decoder"] and len(trace.media["timestamps"]) == 8
    assert trace.sampling["temperature"] == 0.0 and len(trace.sampling["prompt"]) == 12
    assert cases["still"].trace.problems and cases["text"].trace.media == {}


def test_finished_samples_are_not_asked_again(run, questions, media):
    generate(run, questions[:2], media)
    engine = teacher()
    journal = generate(run, questions, media, engine)
    assert sorted(engine.asked) == ["short/0", "still/0", "text/0"]
    assert len(list(journal.cases())) == 5


def test_unreadable_media_is_recorded_and_does_not_stop_the_rest(run, questions, media):
    bad = [
        Question(id=name, problem="?", path=path, problem_type="OCR", answer="2")
        for name, path in (("b", "broken.mp4"), ("m", "missing.mp4"), ("o", "../outside.mp4"))
    ]
    journal = generate(run, [*bad, *questions], media)
    assert len(list(journal.cases())) == 5
    errors = {error["question_id"]: error for error in journal.errors()}
    assert set(errors) == {"b", "m", "o"}
    assert all(error["reason"] and error["problem_type"] == "OCR" for error in errors.values())
    engine = teacher()
    generate(run, [*bad, *questions], media, engine)
    assert engine.asked == []


def test_a_failed_request_is_recorded_and_retried_only_on_demand(run, questions, media):
    def fail(question):
        if question.id == "twin":
            raise RuntimeError("out of memory")
        return SAID[question.id]

    journal = generate(run, questions, media, ScriptedEngine(fail))
    assert [(e["question_id"], e["reason"]) for e in journal.errors()] == [
        ("twin", "out of memory")
    ]
    journal.errors_path.unlink()
    engine = teacher()
    generate(run, questions, media, engine)
    assert engine.asked == ["twin/0"]


def test_no_answer_at_all_is_an_error(run, media):
    bad = [Question(id="b", problem="?", path="broken.mp4", problem_type="OCR", answer="2")]
    with pytest.raises(EngineError, match=r"none of 1 questions.*broken\.mp4"):
        generate(run, bad, media)


def test_no_questions_is_an_error(run, media):
    with pytest.raises(UserError, match="no questions"):
        generate(run, [], media)


def test_another_model_in_the_same_run_is_refused(run, questions, media):
    generate(run, questions[:1], media)
    other = ScriptedEngine(lambda question: "2", weights="w2")
    with pytest.raises(UserError, match=r"weights was 'w1', now 'w2'"):
        generate(run, questions, media, other)


def test_other_questions_under_the_same_ids_are_refused(run, questions, media):
    generate(run, questions[:1], media)
    changed = questions[0].model_copy(update={"problem": "Something else?"})
    with pytest.raises(EngineError, match="another question with the id 'long'"):
        generate(run, [changed], media)


def test_repeated_ids_are_refused(run, questions, media):
    with pytest.raises(EngineError, match="same id"):
        generate(run, [questions[0], questions[0]], media)


def test_filter_keeps_right_and_sufficient_and_counts_the_others(run, questions, media):
    bad = Question(id="b", problem="?", path="broken.mp4", problem_type="numerical", answer="2")
    generate(run, [*questions, bad], media)
    judge = WordJudge()
    row = filter_traces(run.recipe, run, judge)["all"]
    assert row == {
        "generated": 5,
        "on template": 4,
        "right answer": 3,
        "sufficient observation": 1,
        "kept": 1,
        "unreadable": 1,
        "answer unknown": 0,
        "verdict unknown": 1,
    }
    assert judge.asked == 3, "only what passed step 2 is judged"
    assert [case.question.id for case in read_kept(run)] == ["long"]
    ends = {case.question.id: case.tags for case in read_cases(run.path("cases", "cot.jsonl"))}
    assert ends["twin"] == ["dropped: right answer"] and ends["long"] == ["kept"]
    assert read_json(run.path("funnel.json"))["table"]["all"] == row


def test_traces_whose_answer_differs_from_the_thinking_are_tagged(run, media):
    def ask(name: str) -> Question:
        kind = {"problem_type": "multiple choice", "options": ["A. red", "B. blue"]}
        return Question(id=name, problem=name, path="long.mp4", answer="A", **kind)

    said = {
        "kept": render("Option A is there.", "So it is blue.", "A"),
        "silent": render("There are perhaps some.", "So it is blue.", "A"),
        "wrong": render("Option A is there.", "So it is red.", "B"),
        "sound": render("Option A is there.", "So it is red.", "A"),
    }
    generate(run, [ask(name) for name in said], media, teacher(**said))
    filter_traces(run.recipe, run, WordJudge())
    tags = {case.question.id: case.tags for case in read_cases(run.path("cases", "cot.jsonl"))}
    assert tags == {
        "kept": ["kept", "mismatch"],
        "silent": ["dropped: verdict unknown", "mismatch"],
        "wrong": ["dropped: on template", "mismatch"],
        "sound": ["kept"],
    }
    found = CaseStore([collect_cases(run)]).page(Filters(mismatch=True))
    assert {row["question.id"] for row in found} == {"kept", "silent", "wrong"}


def test_a_second_filter_asks_only_for_missing_verdicts(run, questions, media):
    generate(run, questions, media)
    first = filter_traces(run.recipe, run, WordJudge())
    judge = WordJudge()
    assert filter_traces(run.recipe, run, judge) == first
    assert judge.asked == 1, "the one without a verdict"


@pytest.mark.parametrize(("frozen", "done"), [(0, ["collect", "freeze", "unfreeze"]), (9, [])])
def test_objects_that_the_program_has_frozen_stay_frozen(run, media, monkeypatch, frozen, done):
    question = Question(id="text", problem="?", problem_type="numerical", answer="2")
    generate(run, [question], media)
    calls = []
    for name in ("collect", "freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda name=name: calls.append(name))
    monkeypatch.setattr(gc, "get_freeze_count", lambda: frozen)
    assert filter_traces(run.recipe, run, WordJudge())["all"]["generated"] == 1
    assert calls == done


def test_filter_needs_traces(run):
    with pytest.raises(UserError, match="p2r generate"):
        filter_traces(run.recipe, run, WordJudge())


def test_sft_needs_kept_traces(run, questions, media):
    with pytest.raises(UserError, match="p2r filter"):
        read_kept(run)
    generate(run, questions, media, ScriptedEngine(lambda question: "2"))
    filter_traces(run.recipe, run, WordJudge())
    with pytest.raises(UserError, match=r"kept no trace.*funnel\.json"):
        read_kept(run)


def test_cases_of_all_stages_are_in_one_store(run, questions, media):
    generate(run, questions, media)
    filter_traces(run.recipe, run, WordJudge())
    store = CaseStore([collect_cases(run)])
    assert store.count() == 5
    assert store.values("trace.stage") == {"cot": 5}
    verdicts = {row["question.id"]: row["verdict"] for row in store.page()}
    assert verdicts == {
        "long": "yes",
        "twin": "no",
        "short": "unknown",
        "still": "unknown",
        "text": "unknown",
    }


def test_journal_lines_are_whole_cases(run, questions, media):
    """So the filter does not need the question file."""
    journal = generate(run, questions, media)
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert all(line["record"]["question"]["problem"] for line in lines)
