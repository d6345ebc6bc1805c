"""Evaluation of a model: metrics with n, counts of unknown values, and settings in the results."""

from __future__ import annotations

import json

import pytest
from scripted import ScriptedEngine, WordJudge

from p2r.errors import UserError
from p2r.evaluation.run import evaluate, summarise
from p2r.records import Question
from p2r.runs import open_run, read_json
from p2r.template import render

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
OPTIONS = ["A. 2", "B. 3"]
# Each question: its type, its right answer, and the response of the model.
SCRIPT = {
    "q1": ("multiple choice", "A", render("I see A here.", "So it is 2.", "A")),
    "q2": ("multiple choice", "A", render("I see some.", "So it is 2.", "B")),
    "q3": ("multiple choice", "A", render("I see perhaps A.", "Who knows.", "A")),
    "q4": ("numerical", "2", "2"),
    "q5": ("numerical", "2", "<observation>I see 2</observation> <think>So"),
    "q6": ("numerical", "two or three", render("x", "y", "2")),
}


@pytest.fixture
def run(tmp_path):
    return open_run(tmp_path / "run", "tiny1")


@pytest.fixture
def test_questions() -> list[Question]:
    return [
        Question(
            id=name,
            problem="?",
            path="twin.mp4",
            problem_type=kind,
            answer=answer,
            options=OPTIONS if kind == "multiple choice" else [],
        )
        for name, (kind, answer, _) in SCRIPT.items()
    ]


def model(weights: str = "w1") -> ScriptedEngine:
    return ScriptedEngine(lambda question: SCRIPT[question.id][2], weights)


def test_metrics_and_their_n(run, test_questions, media):
    cases, result = evaluate(run.recipe, test_questions, model(), run, "sft", WordJudge(), media)
    assert [case.question.id for case in cases] == list(SCRIPT), "in the order of the file"
    metrics = {name: (m["mean"], m["n"]) for name, m in result["metrics"].items()}
    assert metrics == {
        "accuracy": (pytest.approx(2 / 5), 5),  # q6: unreadable truth; q4: no template
        "sufficiency": (pytest.approx(2 / 5), 5),  # q3: no verdict; q4: no observation
        "format": (pytest.approx(4 / 6), 6),
        "mismatch": (pytest.approx(1 / 2), 2),  # q3: the thinking names no option
    }
    for metric in result["metrics"].values():
        assert metric["low"] <= metric["mean"] <= metric["high"]
    process = read_json(run.path("eval", "sft.json"))["process"]
    assert process["perception accuracy"]["word"]["n"] == 4, "q4 has no observation to judge"
    assert process["perception accuracy"]["no observation"]["mean"] == 0.0
    assert process["format"]["both"]["mean"] == metrics["format"][0]
    assert process["lengths"]["think"]["n"] == 5
    assert set(result["per_type"]) == {"multiple choice", "numerical"}
    assert result["per_type"]["numerical"]["mismatch"]["n"] == 0


def test_unknown_values_are_counted(run, test_questions, media):
    bad = Question(id="b", problem="?", path="broken.mp4", problem_type="OCR", answer="x")
    _, result = evaluate(
        run.recipe, [*test_questions, bad], model(), run, "sft", WordJudge(), media
    )
    assert result["questions"] == 7
    assert result["counts"] == {
        "answered": 6,
        "truncated": 0,
        "no readable answer": 2,
        "answer cannot be scored": 1,
        "no verdict": 1,
        "not judged": 0,
    }
    (unreadable,) = result["unreadable"]
    assert unreadable["question_id"] == "b" and "broken.mp4" in unreadable["reason"]


def test_result_holds_its_settings(run, test_questions, media):
    evaluate(run.recipe, test_questions, model(), run, "sft", WordJudge(), media)
    made = read_json(run.path("eval", "sft.json"))["made"]
    assert made["weights"] == "w1" and made["judge"] == "word" and made["seed"] == 0
    assert made["frames"]["max_frames"] == 8 and made["frames"]["max_pixels"] == 3136
    assert made["sampling"]["temperature"] == 0.01 and made["sampling"]["prompt"]
    assert made["environment"]["versions"]["torch"]


def test_direct_answers_have_only_an_accuracy(run, test_questions, media):
    chosen = [question for question in test_questions if question.id in ("q4", "q5")]
    engine = ScriptedEngine(lambda question: {"q4": "2", "q5": "3"}[question.id])
    judge = WordJudge()
    cases, result = evaluate(
        run.recipe, chosen, engine, run, "base_direct", judge, media, style="direct"
    )
    assert list(result["metrics"]) == ["accuracy"]
    assert result["metrics"]["accuracy"]["mean"] == 0.5
    assert judge.asked == 0 and cases[0].verdict is None and cases[0].trace.problems == []


def test_without_a_judge_verdicts_are_unknown_and_counted(run, test_questions, media):
    cases, result = evaluate(run.recipe, test_questions, model(), run, "sft", None, media)
    assert all(case.verdict is None for case in cases) and result["made"]["judge"] == "none"
    assert result["metrics"]["sufficiency"] == {"mean": None, "low": None, "high": None, "n": 0}
    assert result["metrics"]["accuracy"]["n"] == 5
    assert result["counts"]["not judged"] == 6 and result["counts"]["no verdict"] == 0
    assert not run.path("verdicts.jsonl").is_file()


def test_mismatch_is_tagged(run, test_questions, media):
    cases, _ = evaluate(run.recipe, test_questions, model(), run, "sft", WordJudge(), media)
    assert [case.question.id for case in cases if "mismatch" in case.tags] == ["q2"]


def test_resumed_evaluation_equals_an_uninterrupted_one(run, test_questions, media, tmp_path):
    _, whole = evaluate(run.recipe, test_questions, model(), run, "sft", WordJudge(), media)
    other = open_run(tmp_path / "other", "tiny1")
    journal = other.path("eval", "sft.jsonl")
    lines = run.path("eval", "sft.jsonl").read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:2]) + lines[2][:30])  # killed while writing the third
    engine = model()
    _, resumed = evaluate(other.recipe, test_questions, engine, other, "sft", WordJudge(), media)
    assert len(engine.asked) == 4
    assert resumed["metrics"] == whole["metrics"] and resumed["per_type"] == whole["per_type"]


def test_another_model_under_the_same_name_is_refused(run, test_questions, media):
    evaluate(run.recipe, test_questions, model(), run, "sft", WordJudge(), media)
    with pytest.raises(UserError, match="weights was 'w1', now 'w2'"):
        evaluate(run.recipe, test_questions, model("w2"), run, "sft", WordJudge(), media)


def test_a_result_of_other_questions_is_not_overwritten(run, test_questions, media):
    first, others = test_questions[:2], test_questions[2:]
    files = [run.path(*name) for name in (("results", "sft.json"), ("cases", "eval-sft.jsonl"))]
    evaluate(run.recipe, first, model(), run, "sft", None, media)
    kept = [file.read_bytes() for file in files]
    said = r"2 questions of own:questions \(q1 to q2\); 2 of them .* the 4 asked .*--name OTHER"
    with pytest.raises(UserError, match=said):
        evaluate(run.recipe, others, model(), run, "sft", None, media)
    assert [file.read_bytes() for file in files] == kept
    evaluate(run.recipe, first, model(), run, "sft", None, media)
    _, result = evaluate(run.recipe, test_questions, model(), run, "sft", None, media)
    assert result["questions"] == 6, "the same questions and more are a continuation"


def test_no_questions_is_an_error(run, media):
    with pytest.raises(UserError, match="no questions"):
        evaluate(run.recipe, [], model(), run, "sft", WordJudge(), media)


def test_summary_of_no_cases_has_no_numbers():
    metrics = summarise([])["metrics"]
    assert all(
        metric == {"mean": None, "low": None, "high": None, "n": 0} for metric in metrics.values()
    )
    json.dumps(metrics, allow_nan=False)
