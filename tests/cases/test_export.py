"""Exports: selections as files, one case as a page; hostile words stay words."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from test_store import make_case

from p2r.browser.case_page import case_page
from p2r.cases.export import export_cases
from p2r.cases.store import CaseStore
from p2r.errors import UserError
from p2r.files.safe_text import show_unseen, spreadsheet_cell
from p2r.formats import read_cases
from p2r.records import ProcessReward, Verdict
from p2r.video import Frames

HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror=hacked=1>' onload='hacked=1\" "
    "</style></title><!-- ]]> &lt; ${x} {{y}}"
)


def hostile_case():
    return make_case(
        1,
        question_id=HOSTILE,
        question_problem=HOSTILE,
        question_options=[HOSTILE],
        question_answer=HOSTILE,
        question_path=f"../../{HOSTILE}",
        question_source=HOSTILE,
        trace_text=HOSTILE,
        trace_observation=HOSTILE,
        trace_think=HOSTILE,
        trace_answer=HOSTILE,
        trace_model=HOSTILE,
        trace_run=HOSTILE,
        trace_problems=[HOSTILE],
        trace_sampling={HOSTILE: HOSTILE},
        trace_media={HOSTILE: [HOSTILE]},
        verdict=Verdict(sufficient=False, rationale=HOSTILE, judge=HOSTILE),
    )


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_what_is_exported_can_be_opened_again(tmp_path, kind):
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
    with pytest.raises(UserError, match="not as 'xls'"):
        export_cases([], tmp_path / "out.xls")
    assert list(tmp_path.iterdir()) == []


def test_csv_holds_no_formula(tmp_path):
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
def test_cells(value, expected):
    assert spreadsheet_cell(value) == expected


def test_unseen_characters_are_written_out():
    assert show_unseen("a\u202eb\u200bc\0\x1b[0m") == "a[U+202E]b[U+200B]c[U+0000][U+001B][0m"
    assert show_unseen("line\r\nline\t青\U0001f600\ud800") == "line\nline\t青\U0001f600\ufffd"


class Seen(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def make_frames() -> Frames:
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    return Frames(pixels, [0.0, 0.5], [0, 1], 2.0, 1.0, 2, "pyav", HOSTILE, note=HOSTILE)


def test_a_page_of_a_hostile_case_holds_words_only():
    page = case_page(hostile_case(), make_frames())
    seen = Seen(page)
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "iframe", "link", "a", "svg"})
    names = {name for _, attributes in seen.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    sources = [attributes["src"] for _, attributes in seen.tags if "src" in attributes]
    assert len(sources) == 2 and all(src.startswith("data:image/png;base64,") for src in sources)
    assert seen.text.count(HOSTILE) > 10
    assert "default-src 'none'" in page and "prefers-color-scheme: dark" in page
    assert not re.search(r"https?://", page)


def test_a_page_says_what_is_unknown_and_what_is_missing():
    bare = make_case(1, verdict=None, accuracy=None, trace_observation=None, trace_think=None)
    text = Seen(case_page(bare, no_frames="there is no such file")).text
    for words in (
        "No frames: there is no such file",
        "Nobody judged",
        "not readable",
        "not scored",
    ):
        assert words in text
    scored = make_case(
        2,
        perception=ProcessReward(accuracy=1.0, format=1.0, length=0.2),
        reasoning=ProcessReward(accuracy=None, format=1.0, length=0.0),
    )
    text = Seen(case_page(scored)).text
    assert "2.20 = accuracy 1.00 + format 1.00 + length 0.20" in text
    assert "unknown = accuracy unknown" in text


def test_a_page_of_a_megabyte_is_whole():
    case = make_case(1, trace_think="word " * 200_000 + "END", trace_observation="\u202e" * 1000)
    page = case_page(case)
    assert "END</p>" in page and "\u202e" not in page
