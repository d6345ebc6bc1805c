"""The same question in many spellings: keys, options, media, bounds of clips, chats and types."""

import json

import pytest

from p2r.formats import read_questions
from p2r.formats.bounds import seconds_of
from p2r.formats.rawrecords import to_question
from p2r.formats.values import BadValue, infer_problem_type
from p2r.scoring.choices import extract_choice

TEXTS = ["left", "right"]
AB = ["A. left", "B. right"]
RECORD = {"question": "What?", "options": AB, "answer": "B", "video": "v.mp4"}
TEXT = "What?\nA. left\nB. right"
TURNS = [{"role": "user", "content": TEXT}, {"role": "assistant", "content": "B"}]
PARTS = [{"type": "input_video", "video": "v.mp4"}, {"type": "input_text", "text": TEXT}]
BARE_PARTS = [{"video": "v.mp4"}, {"text": TEXT}]


def without(*keys):
    return {key: value for key, value in RECORD.items() if key not in keys}


SAME = {
    "capitals": {key.capitalize(): value for key, value in RECORD.items()},
    "upper case": {key.upper(): value for key, value in RECORD.items()},
    "camel case": without("video", "answer") | {"videoPath": "v.mp4", "correctAnswer": "B"},
    "columns": without("options") | {"Option A": "left", "Option B": "right"},
    "short columns": without("options") | {"opt_a": "left", "opt_b": "right"},
    "q and a": without("question", "answer") | {"q": "What?", "a": "B"},
    "a list as answer": RECORD | {"answer": ["B"]},
    "a chat as text": {"messages": json.dumps(TURNS), "video": "v.mp4"},
    "a dialog": {"dialog": TURNS, "video": "v.mp4"},
    "roles in capitals": {
        "messages": [turn | {"role": turn["role"].upper()} for turn in TURNS],
        "video": "v.mp4",
    },
    "typed parts": {"messages": [{"role": "user", "content": PARTS}, TURNS[1]]},
    "bare parts": {"messages": [{"role": "user", "content": BARE_PARTS}, TURNS[1]]},
    "a place in the text": RECORD | {"question": "<image>\nWhat?"},
} | {
    f"answer under {key}": without("answer") | {key: "B"}
    for key in ("correct", "correct_choice", "answerKey", "answer_letter", "mc_answer", "gt_option")
}


@pytest.mark.parametrize("name", SAME)
def test_other_keys_give_the_same_question(name):
    question = to_question(SAME[name], 0)
    assert (question.problem, question.options, question.answer) == ("What?", AB, "B")
    assert (question.path, question.problem_type) == ("v.mp4", "multiple choice")


@pytest.mark.parametrize(
    "options",
    [
        "left\nright",
        "left|right",
        "A. left\r\nB. right",
        "（A）left（B）right",
        "a) left\nb) right",
        "1. left\n2. right",
        [{"A": "left"}, {"B": "right"}],
        {"text": TEXTS, "label": ["A", "B"]},
        {"choices": TEXTS},
        {"option_a": "left", "option_b": "right"},
        ["**A.** left", "**B.** right"],
        ["A）left", "B）right"],
        ["left", "right", None, ""],
    ],
    ids=str,
)
def test_options_in_other_styles(options):
    question = to_question(RECORD | {"options": options}, 0)
    assert [extract_choice(text, question.options) for text in TEXTS] == ["A", "B"]


@pytest.mark.parametrize(
    "text",
    [
        "What?\na) left\nb) right",
        "What?\n(a) left\n(b) right",
        "What?\r\nA. left\r\nB. right",
        "What?\nＡ．left\nＢ．right",
        "What?\n（A）left\n（B）right",
        "What?\n选项：\nA. left\nB. right",
        "What?\n\nA. left\n\nB. right\n",
    ],
)
def test_options_in_the_text_in_other_styles(text):
    question = to_question(without("options") | {"question": text}, 0)
    assert (question.problem, question.options) == ("What?", AB)


def test_letters_in_a_text_are_no_options_if_the_answer_is_none_of_them():
    text = "Compare (a) the cat and (b) the dog."
    question = to_question({"question": text, "answer": "The cat is big.", "video": "v.mp4"}, 0)
    assert (question.options, question.problem_type) == ([], "free-form")


@pytest.mark.parametrize("key", ["vid", "video_id", "Video", "file_name", "visual", "source_video"])
def test_a_video_under_other_keys(key):
    assert to_question(without("video") | {key: "v.mp4"}, 0).path == "v.mp4"


@pytest.mark.parametrize(
    "value",
    [["v.mp4"], [["v.mp4"]], {"src": "v.mp4"}, {"file": "v.mp4"}, " v.mp4 ", "file://v.mp4"],
    ids=str,
)
def test_a_video_in_other_forms(value):
    assert to_question(RECORD | {"video": value}, 0).path == "v.mp4"


def test_an_id_of_a_video_is_no_file():
    with pytest.raises(BadValue, match="no media"):
        to_question(without("video") | {"video_id": "v_123"}, 0)


ROWS = [RECORD, RECORD | {"question": "Who?"}]
ASKED = [{key: value for key, value in row.items() if key != "video"} for row in ROWS]
FILES = {
    "a list in a list": [ROWS],
    "a list for each": [[row] for row in ROWS],
    "parts of a data set": {"data": {"train": ROWS}},
    "questions of a clip": {"version": 1, "data": [{"video": "v.mp4", "questions": ASKED}]},
    "a clip with its questions": [{"videoPath": "v.mp4", "qa": ASKED}],
}


@pytest.mark.parametrize("name", FILES)
def test_records_inside_other_values(name, tmp_path):
    (tmp_path / "q.json").write_text(json.dumps(FILES[name]))
    bad = []
    found = [(q.problem, q.path) for q in read_questions(tmp_path / "q.json", bad.append)]
    assert (found, bad) == ([("What?", "v.mp4"), ("Who?", "v.mp4")], [])


def test_pretty_printed_records_one_after_another_are_all_read(tmp_path):
    """As `jq .` writes them, also if a record has its videos in a list."""
    records = [RECORD | {"problem_id": k, "videos": ["v.mp4"]} for k in range(3)]
    file, bad = tmp_path / "q.json", []
    text = "\n".join(json.dumps(record, indent=2) for record in records)
    for given, count in ((text, 3), (text + "\nrest", 3), (text[:-30], 2)):
        file.write_text(given)
        assert len(list(read_questions(file, on_bad=bad.append))) == count
    assert ["text after" in bad[0].reason, "breaks off" in bad[1].reason] == [True, True]
    file.write_text(json.dumps(records[0], indent=2))
    assert len(list(read_questions(file))) == 1


def test_a_record_in_which_the_file_breaks_off_is_a_bad_record(tmp_path):
    file, bad = tmp_path / "q.json", []
    file.write_text('{"problem": "What?", "answer": "B",\n"path": "v.mp4", "options": ["A. x", "B')
    assert list(read_questions(file, on_bad=bad.append)) == []
    assert "breaks off" in bad[0].reason


def test_lines_that_end_with_commas(tmp_path):
    lines = "".join(f"{json.dumps(row)},\n" for row in ROWS)
    (tmp_path / "q.jsonl").write_text(lines)
    assert [q.problem for q in read_questions(tmp_path / "q.jsonl")] == ["What?", "Who?"]


BOUNDS = [
    {"begin": 12, "end": 20},
    {"startTime": "00:12", "endTime": "00:20"},
    {"start_ms": 12000, "end_ms": "20000"},
    {"start": "12000ms", "end": "20 sec"},
    {"start_second": "0m12s", "end_second": "00:00:20,000"},
    {"start_frame": 120, "end_frame": 200, "fps": 10},
    {"clip": "00:12-00:20"},
    {"clip": "00:12 --> 00:20"},
    {"clip": "12s–20s"},
    {"clip": "[12, 20]"},
    {"clip": {"start_time": 12, "end_time": 20}},
    {"time_range": ["0:12", "0:20"]},
]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_bounds_in_other_units_and_keys(bounds):
    assert to_question(RECORD | bounds, 0).window == {"start": 12.0, "end": 20.0}


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({"start_frame": 1, "end_frame": 2}, "in frames"),
        ({"start": 1, "end": -1}, "not times in seconds"),
        ({"start": "soon"}, "not times in seconds"),
    ],
)
def test_unclear_bounds_are_refused(bounds, reason):
    with pytest.raises(BadValue, match=reason):
        to_question(RECORD | bounds, 0)


@pytest.mark.parametrize("text", ["", "s", ":", "1:2:3:4", "-1", "1e3", "nan"])
def test_what_is_no_time(text):
    with pytest.raises(BadValue):
        seconds_of(text)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        *((text, "numerical") for text in ("½", "-3/4", "1 ½", "$5", r"\frac{1}{2}", "5 %", "1e3")),
        *((text, "free-form") for text in ("5 m", "a/b", "yes", "1/2/3", "No. 5")),
    ],
)
def test_the_type_of_an_answer(answer, kind):
    assert infer_problem_type([], answer) == kind
