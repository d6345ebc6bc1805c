"""Exports of a selection: Parquet, CSV and JSON lines, streamed and without formulas."""

import csv
import json

import pytest
from case_records import make_case

from p2r.cases.export import export_cases
from p2r.cases.store import CaseStore
from p2r.errors import UserError
from p2r.files.safe_text import show_pieces, show_unseen, spreadsheet_cell
from p2r.formats import read_cases


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_an_export_can_be_read_again(tmp_path, kind):
    cases = [make_case(n, trace_text="\u202e\0 =1 \n") for n in range(1100)]
    file = tmp_path / f"out.{kind}"
    assert export_cases(iter(cases), file) == 1100
    again = CaseStore([file]).cases() if kind == "parquet" else read_cases(file)
    assert list(again) == cases
    assert export_cases([], file) == 0
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_selection_is_streamed(tmp_path):
    out = tmp_path / ".out.jsonl"
    seen = []

    def cases():
        for n in range(3000):
            if n == 2999:
                seen.extend(path.stat().st_size for path in tmp_path.iterdir())
            yield make_case(n)

    export_cases(cases(), out, "jsonl")
    assert seen and seen[0] > 0.9 * out.stat().st_size, "written while cases are still to come"


def test_a_failed_export_leaves_nothing(tmp_path):
    def broken():
        yield make_case(1)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        export_cases(broken(), tmp_path / "out.csv")
    with pytest.raises(UserError, match="cannot be exported as 'xls'"):
        export_cases([], tmp_path / "out.xls")
    assert list(tmp_path.iterdir()) == []


def test_csv_contains_no_formula(tmp_path):
    case = make_case(
        1,
        question_problem="=cmd|' /C calc'!A0",
        trace_answer=" \t@SUM(1+1)",
        trace_think="-2+3",
        trace_observation='a\n=b, "c"',
        perception_advantage=-0.5,
    )
    export_cases([case], tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_bytes().decode()
    assert text.startswith("\ufeff")
    row = next(csv.DictReader(text.removeprefix("\ufeff").splitlines(keepends=True)))
    assert row["question.problem"] == "'=cmd|' /C calc'!A0"
    assert row["trace.answer"] == "' \t@SUM(1+1)" and row["trace.think"] == "'-2+3"
    assert row["trace.observation"] == 'a\n=b, "c"'
    assert row["perception_advantage"] == "-0.5", "a number stays one"
    assert json.loads(row["question.options"]) == case.question.options


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=1", "'=1"),
        ("＝1", "'＝1"),
        ("\r=1", "'\r=1"),
        ("\n", "'\n"),
        ("plain = text", "plain = text"),
        ("", ""),
        (None, None),
        (-1.5, -1.5),
        (True, True),
        ("a\0b\ud800", "a\ufffdb\ufffd"),
    ],
)
def test_spreadsheet_cells_are_made_safe(value, expected):
    assert spreadsheet_cell(value) == expected


def test_invisible_characters_are_written_out():
    assert show_unseen("a\u202eb\u200bc\0\x1b[0m") == "a[U+202E]b[U+200B]c[U+0000][U+001B][0m"
    assert show_unseen("line\r\nline\t青\U0001f600\ud800") == "line\nline\t青\U0001f600\ufffd"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pieces_are_shown_like_the_whole_text(size):
    text = "line\r\nline\ta\u202eb\r\x1b[0m\r"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert "".join(show_pieces(pieces)) == show_unseen(text)
    assert next(show_pieces(["a", "b"])) == "a"
