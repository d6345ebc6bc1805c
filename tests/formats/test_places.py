"""`p2r.formats.places`: answers that are the index of an option."""

import json

import pytest

from p2r.formats import read_questions
from p2r.records import Question
from p2r.scoring.answers import extract_choice

OPTIONS = ["walk", "run", "sit"]


def read(tmp_path, answers, options=OPTIONS):
    """Return the answers of questions as they are read, and the reasons of the bad ones."""
    records = [
        {"question": f"Why {n}?", "video": "v.mp4", "options": options, "answer": answer}
        for n, answer in enumerate(answers)
    ]
    (tmp_path / "q.json").write_text(json.dumps(records))
    bad = []
    found = list(read_questions(tmp_path / "q.json", bad.append))
    return [question.answer for question in found], [record.reason for record in bad]


@pytest.mark.parametrize("kind", [int, str, float, lambda place: f"{place}.0"])
def test_one_convention_per_file_is_found(tmp_path, kind):
    assert read(tmp_path, map(kind, (1, 2, 0))) == (["B", "C", "A"], [])
    assert read(tmp_path, map(kind, (1, 2, 3))) == (["A", "B", "C"], [])


def test_an_unclear_place_is_a_bad_record(tmp_path):
    for answers in ([1, 2, 1], [0, 1, 3]):
        found, bad = read(tmp_path, answers)
        assert found == []
        assert bad[0].startswith(f"the answer {answers[0]} may count the options from 0 or from 1")


def test_records_of_p2r_are_not_changed(tmp_path):
    question = Question(
        id="q",
        problem="Why?",
        problem_type="multiple choice",
        options=OPTIONS,
        answer="1",
        path="v",
    )
    (tmp_path / "q.jsonl").write_text(question.model_dump_json())
    assert list(read_questions(tmp_path / "q.jsonl")) == [question]


def test_letters_and_texts_are_no_places(tmp_path):
    assert read(tmp_path, ["A", "run", "C"]) == (["A", "run", "C"], [])
    assert read(tmp_path, [2, 3], ["A. 2", "B. 3"]) == (["2", "3"], [])
    assert read(tmp_path, [7]) == (["7"], [])


@pytest.mark.parametrize("form", ["{}. {}", "{}) {}", "({}) {}"])
def test_options_whose_labels_are_numbers_decide_themselves(tmp_path, form):
    """No record shows where counting starts, but the labels do."""
    options = [form.format(k, text) for k, text in enumerate("wxyz", 1)]
    assert read(tmp_path, [2, "3"], options) == (["2", "3"], [])
    assert extract_choice("2", options) == "B"
