"""Labels: append-only, several annotators, the last label counts, safe exports."""

import csv
import io
import json
import multiprocessing

import pytest

from p2r.cases.labels import (
    MAX_COMMENT,
    CaseLabel,
    LabelFile,
    export_labels,
    hide_verdict,
    sample_cases,
)
from p2r.errors import UserError
from p2r.records import Case, ProcessReward, Question, Trace, Verdict


def label(case="c1", annotator="ann", sufficient=True, **more) -> CaseLabel:
    return CaseLabel(case=case, annotator=annotator, sufficient=sufficient, **more)


def test_the_last_label_of_an_annotator_counts_and_older_ones_stay_in_the_file(tmp_path):
    file = LabelFile(tmp_path)
    assert file.labels() == [] and not file.path.exists(), "reading writes nothing"
    for given in (
        label(sufficient=True),
        label(annotator="bob", sufficient=False, failure="reasoning slip"),
        label(case="c2"),
        label(sufficient=None, comment="unsure"),
    ):
        file.add(given)
    assert len(file.labels()) == 4 and all(given.time for given in file.labels())
    assert {key: found.sufficient for key, found in file.latest().items()} == {
        ("ann", "c1"): None,
        ("bob", "c1"): False,
        ("ann", "c2"): True,
    }
    assert [found.annotator for found in file.of_case("c1")] == ["ann", "bob"]
    assert file.has_labelled("c1", " ann ") and not file.has_labelled("c2", "bob")


def test_labels_that_others_append_are_read(tmp_path):
    mine, other = LabelFile(tmp_path), LabelFile(tmp_path / "labels.jsonl")
    mine.add(label())
    assert len(other.labels()) == 1
    mine.add(label(case="c2"))
    assert [found.case for found in other.labels()] == ["c1", "c2"]
    mine.path.unlink()
    other.add(label(case="c3"))
    assert [found.case for found in mine.labels()] == ["c3"], "a file that was replaced"


def test_a_file_that_was_deleted_or_overwritten_is_read_again(tmp_path):
    file = LabelFile(tmp_path)
    file.add(label(comment="old"))
    assert [each.comment for each in file.labels()] == ["old"]
    with file.path.open("r+") as same:  # the inode stays, and the file becomes longer
        same.write((label(comment="new").model_dump_json() + "\n") * 3)
    assert [each.comment for each in file.labels()] == ["new"] * 3
    file.path.unlink()
    assert file.labels() == [] and file.faults() == []
    file.add(label(comment="later"))
    assert [each.comment for each in file.labels()] == ["later"]


def test_an_unfinished_line_is_skipped_and_then_removed(tmp_path):
    file = LabelFile(tmp_path)
    file.add(label())
    with file.path.open("ab") as raw:
        raw.write(b'{"case": "c2", "annot')
    assert len(LabelFile(tmp_path).labels()) == 1
    file.add(label(case="c3"))
    assert [found.case for found in LabelFile(tmp_path).labels()] == ["c1", "c3"]
    assert [json.loads(line)["case"] for line in file.path.read_text().splitlines()] == ["c1", "c3"]


def test_a_damaged_line_is_reported_with_its_reason(tmp_path):
    file = LabelFile(tmp_path)
    file.add(label())
    with file.path.open("a") as raw:
        raw.write('nonsense\n{"case": "c2"}\n' + "[" * 100_000 + "\n")
    file.add(label(case="c3"))
    assert [found.case for found in file.labels()] == ["c1", "c3"]
    first, second, _ = file.faults()
    assert "line 2" in first and "line 3: annotator" in second


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (label(case=""), "needs a case"),
        (label(annotator="  "), "needs an annotator"),
        (label(annotator="x" * 101), "annotator is too long"),
        (label(comment="x" * (MAX_COMMENT + 1)), "comment is too long"),
    ],
)
def test_an_invalid_label_is_refused(tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        LabelFile(tmp_path).add(given)
    assert LabelFile(tmp_path).labels() == []


def test_any_text_survives_a_round_trip(tmp_path):
    comment = '<script>alert(1)</script>\n=1+1 \0 \u202e "quoted", 青い \ud800'
    LabelFile(tmp_path).add(label(comment=comment))
    found = LabelFile(tmp_path).labels()[0].comment
    assert found == comment.replace("\ud800", "\ufffd")


def _add_many(folder, annotator: str) -> None:
    file = LabelFile(folder)
    for number in range(50):
        file.add(label(case=f"c{number}", annotator=annotator, comment="x" * 3000))


def test_several_processes_write_to_one_file(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_add_many, args=(tmp_path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    file = LabelFile(tmp_path)
    assert len(file.labels()) == 150 and file.faults() == []
    assert len(file.latest()) == 150


def test_a_sample_is_the_same_for_all_and_changes_little_as_the_run_grows():
    ids = [f"run/cot/0/q{number}/0" for number in range(1000)]
    drawn = sample_cases(ids, 200)
    assert len(set(drawn)) == 200 and drawn == sample_cases(reversed(ids), 200)
    assert drawn != sample_cases(ids, 200, seed=1)
    grown = sample_cases([*ids, *(f"new{number}" for number in range(100))], 200)
    assert len(set(drawn) & set(grown)) > 160
    assert sample_cases(ids[:5], 200) == sample_cases(ids[:5])


def test_blind_mode_hides_everything_that_reveals_the_verdict():
    case = Case(
        question=Question(
            id="q",
            problem="?",
            problem_type="free-form",
            meta={"scene": "secret", "time": 3},
        ),
        trace=Trace(question_id="q", text="", observation="seen"),
        accuracy=0.0,
        verdict=Verdict(sufficient=False, rationale="secret", judge="secret"),
        reasoning=ProcessReward(accuracy=0.0, format=1.0, length=0.0),
        perception=ProcessReward(accuracy=0.0, format=1.0, length=0.0),
        perception_advantage=-1.0,
        reasoning_advantage=0.5,
        tags=["dropped: secret"],
    )
    hidden = hide_verdict(case)
    assert "secret" not in hidden.model_dump_json() and case.verdict.rationale == "secret"
    for name in ("accuracy", "perception", "reasoning"):
        assert getattr(hidden, name) is None and getattr(case, name) is not None
    assert hidden.perception_advantage is None and hidden.reasoning_advantage is None
    assert hidden.trace == case.trace and hidden.question.meta == {"time": 3}


def test_labels_are_exported_as_json_lines_and_safe_csv():
    given = [label(comment='=HYPERLINK("http://x")', annotator="@ann"), label(case="c2")]
    lines = "".join(export_labels(given, "jsonl")).splitlines()
    assert [CaseLabel(**json.loads(line)) for line in lines] == given
    rows = list(csv.DictReader(io.StringIO("".join(export_labels(given)).removeprefix("\ufeff"))))
    assert rows[0]["comment"] == '\'=HYPERLINK("http://x")' and rows[0]["annotator"] == "'@ann"
    assert rows[1]["case"] == "c2" and rows[1]["sufficient"] == "True"
    with pytest.raises(UserError, match="csv or jsonl"):
        list(export_labels(given, "xls"))
