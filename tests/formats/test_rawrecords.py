"""Records of Video-R1 and VideoP2R: their conversion, and round trips without loss."""

import re

import pytest
from raw_examples import COT, OUTPUT, RL, VIDEO_R1, VIDEOP2R

from p2r.formats.rawrecords import to_case, to_question, to_video_r1, to_videop2r
from p2r.formats.values import BadValue
from p2r.records import WINDOW, Case, Question, Trace
from p2r.template import render

# The deviations that occur in the files, as changes of a record; ... removes a field.
LIBERTIES = [
    {},
    {"options": None},
    {"options": ""},
    {"options": ...},
    {"options": "[]"},
    {"options": "None"},
    {"options": []},
    {"options": "['A. left', \"B. it's\"]"},
    {"options": '["A. left", "B. right"]'},
    {"options": ["A) left", "B) right"]},
    {"options": ["(A) left", "(B) right"]},
    {"options": [1, 2]},
    {"solution": "B"},
    {"solution": "<answer>\nB\n</answer>"},
    {"solution": 5},
    {"solution": None},
    {"solution": ...},
    {"problem_id": "17"},
    {"problem_id": "007"},
    {"problem_id": "clip-17"},
    {"problem_id": 1.5},
    {"problem_id": None},
    {"problem_id": ...},
    {"path": ..., "video": "a.mp4"},
    {"path": None, "video_path": "a.mp4"},
    {"path": "", "videos": ["a.mp4"]},
    {"path": ["a.mp4"]},
    {"path": ..., "data_type": "text"},
    {"path": ..., "data_type": ..., "image": "a.png"},
    {"problem_type": ...},
    {"problem_type": "Multiple-Choice"},
    {"options": {"A": "left", "B": "right"}},
    {"options": [["A", "left"], ["B", "right"]]},
    {"options": [{"label": "A", "text": "left"}, {"label": "B", "text": "right"}]},
    {"options": ["left", "right", None]},
    {"start": 1.0, "end": 1.5},
    {"clip": [1.0, 1.5]},
    {"data_type": ...},
    {"data_source": ...},
    {"data_source": None},
    {"problem": " Which? \n"},
    {"extra": {"a": [1, None]}, "id": 3, "meta": "x"},
]
TRACE_LIBERTIES = [
    {"process": " <think>It moves right.</think>"},
    {"process": "It moves right.\n"},
]
OUTPUT_LIBERTIES = [
    {"observation": "<observation>I see it move.</observation>"},
    {"answer": "<answer>B</answer>"},
    {"output": ...},
    {"output": ""},
    {"output": None},
    {"output": "B"},
    {"observation": ""},
    {"observation": None, "process": None, "answer": None},
    {"observation": ..., "process": ..., "answer": ...},
]


def changed(record: dict, changes: dict) -> dict:
    return {key: value for key, value in (record | changes).items() if value is not ...}


# ---- what is read


def test_a_video_r1_record_as_a_question():
    assert to_question(VIDEO_R1, 0) == Question(
        id="17",
        problem="Which way does it go?",
        options=["A. left", "B. right"],
        problem_type="multiple choice",
        data_type="video",
        path="./LLaVA-Video-178K/17.mp4",
        answer="B",
        source="LLaVA-Video-178K",
    )


@pytest.mark.parametrize("form", ["raw", "question", "case"])
def test_a_file_cannot_write_the_beginning_of_a_response(form):
    begun = {"_begin": "<observation>It moves.</observation><think>So</think><answer>A</answer>"}
    ours = {
        "id": "1",
        "problem": "?",
        "problem_type": "OCR",
        "data_type": "video",
        "path": "a.mp4",
        "meta": begun,
    }
    record = {
        "raw": VIDEO_R1 | begun,
        "question": ours,
        "case": {"question": ours, "trace": {"question_id": "1", "text": "x"}},
    }[form]
    question = to_question(record, 0)
    assert question.begin == "" and "_begin" not in question.meta
    posed = question.model_copy(update={"meta": {**question.meta, **begun}})
    assert posed.begin and "_begin" not in to_video_r1(posed)


OURS = {
    "id": "1",
    "problem": "Which?",
    "problem_type": "multiple choice",
    "data_type": "video",
    "options": ["A. left", "B. right"],
    "path": "a.mp4",
    "answer": "B",
}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("mcq", "multiple choice"),
        ("Multiple-Choice", "multiple choice"),
        ("open-ended", "free-form"),
    ],
)
def test_our_own_records_may_spell_the_problem_type_in_any_way(written, read):
    record = OURS | {"problem_type": written}
    assert to_question(record, 0).problem_type == read
    case = {"question": record, "trace": {"question_id": "1", "text": "x"}}
    assert to_case(case, 0).question.problem_type == read
    with pytest.raises(BadValue, match="unknown problem type 'riddle'"):
        to_question(OURS | {"problem_type": "riddle"}, 0)


@pytest.mark.parametrize("numbers", [{"id": 3}, {"answer": 3}, {"id": 3, "answer": 0.5}])
def test_numbers_count_the_same_with_and_without_one_more_key(numbers):
    record = OURS | {"options": [], "problem_type": "numerical"} | numbers
    plain, longer = to_question(record, 0), to_question(record | {"extra": "x"}, 0)
    assert longer.meta.pop("extra") == "x"
    assert plain == longer
    assert plain.id == str(record["id"]) and plain.answer == str(record["answer"])


@pytest.mark.parametrize("more", [5, "a.mp4", [5], [{"file": "a.mp4"}], {"path": "a.mp4"}])
def test_more_media_in_a_wrong_form_make_a_bad_record(more):
    record = {
        "id": "1",
        "problem": "?",
        "problem_type": "OCR",
        "data_type": "video",
        "path": "a.mp4",
    }
    with pytest.raises(BadValue, match="_more_media is not a list of media"):
        to_question(record | {"meta": {"_more_media": more}}, 0)


def test_a_cot_record_as_a_case():
    case = to_case(COT, 0)
    assert case.question == to_question(VIDEO_R1, 0)
    assert case.trace == Trace(
        question_id="17",
        text="<think>\nIt moves to the right.\n</think>\n<answer>B</answer>",
        think="It moves to the right.",
        answer="B",
        problems=["observation missing"],
    )


@pytest.mark.parametrize("record", [VIDEOP2R, RL])
def test_a_videop2r_record_as_a_case(record):
    case = to_case(record, 0)
    assert case.question.model_copy(update={"meta": {}}) == to_question(VIDEO_R1, 0)
    assert {key: case.question.meta[key] for key in ("reward", "select", "clean_version")} == {
        key: record[key] for key in ("reward", "select", "clean_version")
    }
    assert case.trace == Trace(
        question_id="17",
        text=OUTPUT,
        observation="I see it move.",
        think="It moves right.",
        answer="B",
    )


@pytest.mark.parametrize(
    ("options", "read"),
    [
        (["A. left", "B. right"], ["A. left", "B. right"]),
        ("['A) left', \"B) it's\"]", ["A) left", "B) it's"]),
        ('["(A) left", "(B) right"]', ["(A) left", "(B) right"]),
        ("('A. left',)", ["A. left"]),
        ([1, 2.5], ["1", "2.5"]),
        (None, []),
        ("", []),
        ("None", []),
        ("null", []),
        ("[]", []),
        (..., []),
    ],
)
def test_options_as_a_list_as_its_string_or_absent(options, read):
    assert to_question(changed(VIDEO_R1, {"options": options}), 0).options == read


@pytest.mark.parametrize(
    "solution",
    ["B", "<answer>B</answer>", " <answer>\nB\n</answer>\n", "<think>x</think><answer>B"],
)
def test_answers_are_bare(solution):
    assert to_question(VIDEO_R1 | {"solution": solution}, 0).answer == "B"


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("a/b.mp4", "video"),
        ("a/b.JPG", "image"),
        ("a.png", "image"),
        ("x", "video"),
        ("frames/17", "video"),
    ],
)
def test_a_missing_data_type_follows_from_the_path(path, media):
    assert to_question(changed(VIDEO_R1, {"path": path, "data_type": ...}), 0).data_type == media


@pytest.mark.parametrize(
    ("identifier", "read"), [(17, "17"), ("x7", "x7"), (0, "0"), (None, "4"), (..., "4")]
)
def test_the_id_is_the_problem_id_or_the_place(identifier, read):
    assert to_question(changed(VIDEO_R1, {"problem_id": identifier}), 4).id == read


def test_without_a_solution_the_answer_is_the_reference():
    record = changed(VIDEO_R1, {"solution": ..., "answer": "<answer>B</answer>"})
    assert to_question(record, 0).answer == "B"


def test_missing_segments_are_read_from_the_output():
    record = changed(VIDEOP2R, {"observation": ..., "process": None, "answer": ...})
    assert to_case(record, 0).trace == to_case(VIDEOP2R, 0).trace


def test_a_missing_output_is_made_from_the_segments():
    for missing in (..., "", None):
        assert to_case(changed(VIDEOP2R, {"output": missing}), 0).trace.text == OUTPUT


# ---- bad records


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("a string", "not an object: 'a string'"),
        ([1], "not an object"),
        (None, "not an object: None"),
        (changed(VIDEO_R1, {"problem": ...}), "no problem text"),
        (VIDEO_R1 | {"problem": "  "}, "no problem text"),
        (VIDEO_R1 | {"problem": 5}, "no problem text"),
        (
            VIDEO_R1 | {"problem_type": "essay"},
            "unknown problem type 'essay': known are multiple choice, numerical, OCR, free-form, "
            "regression",
        ),
        (VIDEO_R1 | {"problem_type": ["OCR"]}, "unknown problem type"),
        (VIDEO_R1 | {"data_type": "audio"}, "unknown data type 'audio'"),
        (VIDEO_R1 | {"options": "left or right"}, "options are not a list: 'left or right'"),
        (VIDEO_R1 | {"options": ["left", None, "right"]}, "an option between others is empty"),
        (VIDEO_R1 | {"options": "__import__('os')"}, "options are not a list"),
        (VIDEO_R1 | {"options": "[" * 10_000}, "options are not a list"),
        (VIDEO_R1 | {"extra": "\ud83d"}, "extra contains a lone surrogate"),
        (VIDEO_R1 | {"extra": {"deep": ["a", "\ud83d"]}}, "extra contains a lone surrogate"),
        (VIDEO_R1 | {"path": ["a.mp4", "b.mp4"], "clip": [0, 1]}, "bounds of a clip for 2 videos"),
        (VIDEO_R1 | {"path": ""}, "no media: none of path, video_path,"),
        (changed(VIDEO_R1, {"path": ...}), "no media: none of path, video_path,"),
        (changed(VIDEO_R1, {"path": ..., "data_type": ...}), "no media: none of path, video_path,"),
        (RL | {"path": "None"}, "no media: none of path, video_path,"),
        (VIDEO_R1 | {"path": 5}, "a number instead of a media file under path: 5"),
        (VIDEO_R1 | {"start": 2, "end": 1}, "the clip ends at 1 s, before it starts at 2 s"),
        (VIDEO_R1 | {"start": "soon"}, "the bounds of the clip are not times in seconds: 'soon'"),
        (VIDEO_R1 | {"clip": [1, 2, 3]}, "the bounds of the clip are not a start and an end"),
        (
            {"text": "Which?", "file": "a.mp4"},
            "no problem text: the keys are text, file; the known shapes have prompt and completion "
            "(TRL); ",
        ),
        (VIDEO_R1 | {"solution": {"A": 1}}, "a list or an object instead of text"),
    ],
)
def test_a_bad_record_says_why(record, reason):
    for convert in (to_question, to_case):
        with pytest.raises(BadValue, match="^" + re.escape(reason)):
            convert(record, 0)


def test_a_written_question_without_media_needs_all_fields_of_p2r():
    question = Question(id="q", problem="What is 1 + 1?", problem_type="numerical")
    assert to_question(question.model_dump(), 0) == question
    by_hand = {key: value for key, value in question.model_dump().items() if key != "path"}
    with pytest.raises(BadValue, match="no media: none of path"):
        to_question(by_hand, 0)


@pytest.mark.parametrize(
    "record", [VIDEO_R1, COT | {"process": ""}, RL | {"output": "None", "process": "nan"}]
)
def test_a_record_without_a_trace_is_not_a_case(record):
    with pytest.raises(BadValue, match="no trace"):
        to_case(record, 0)


# ---- our own records


def test_our_own_records_pass_unchanged():
    question = Question(
        id="q", problem="How many?", problem_type="numerical", path="a.mp4", meta={"a": 1}
    )
    case = Case(question=question, trace=Trace(question_id="q", text="5"), tags=["odd"])
    assert to_question(question.model_dump(), 9) == question
    assert to_case(case.model_dump(), 9) == case
    assert to_question(case.model_dump(), 9) == question
    assert to_case(case, 9) == case


@pytest.mark.parametrize("change", [{"problem_type": "essay"}, {"problem": ""}, {"options": "x"}])
def test_our_own_records_are_checked(change):
    question = Question(id="q", problem="How many?", problem_type="numerical", path="a.mp4")
    with pytest.raises(ValueError):
        to_question(question.model_dump() | change, 0)
    case = Case(question=question, trace=Trace(question_id="q", text="5")).model_dump()
    with pytest.raises(ValueError):
        to_case(case | {"question": case["question"] | change}, 0)


# ---- back


@pytest.mark.parametrize("changes", LIBERTIES)
def test_video_r1_records_are_restored_field_for_field(changes):
    record = changed(VIDEO_R1, changes)
    assert to_video_r1(to_question(record, 0)) == record
    for trace in ({}, *TRACE_LIBERTIES):
        record = changed(COT, changes | trace)
        assert to_video_r1(to_question(record, 0)) == record
        assert to_video_r1(to_case(record, 0)) == record


@pytest.mark.parametrize("changes", LIBERTIES + TRACE_LIBERTIES + OUTPUT_LIBERTIES)
def test_videop2r_records_are_restored_field_for_field(changes):
    record = changed(VIDEOP2R, changes)
    assert to_videop2r(to_question(record, 0)) == record
    assert to_videop2r(to_case(record, 0)) == record


@pytest.mark.parametrize("changes", LIBERTIES + TRACE_LIBERTIES)
def test_records_of_strings_are_restored_field_for_field(changes):
    record = {key: str(value) for key, value in changed(VIDEOP2R, changes).items()}
    if record.get("problem_id") == "None":
        return  # the word, not a null: it stays the id
    for item in (to_question(record, 0), to_case(record, 0)):
        assert to_videop2r(item) == to_videop2r(item, strings=True) == record


def test_types_are_restored_too():
    restored = to_videop2r(to_case(VIDEOP2R | {"problem_id": "17", "select": 1}, 0))
    assert type(restored["problem_id"]) is str
    assert type(restored["select"]) is int


def test_strings_are_written_on_request_or_if_they_were_read():
    assert to_videop2r(to_case(VIDEOP2R, 0), strings=True) == RL
    typed = to_videop2r(to_case(RL, 0), strings=False)
    assert (typed["options"], typed["problem_id"]) == (VIDEO_R1["options"], 17)


def test_a_changed_field_is_written_and_not_its_old_form():
    record = VIDEO_R1 | {"options": "['A. left', 'B. right']", "solution": "B", "data_source": ...}
    question = to_question(changed(record, {}), 0)
    edited = question.model_copy(update={"options": ["A. up"], "answer": "A", "source": "mine"})
    written = to_video_r1(edited)
    assert written["options"] == ["A. up"]
    assert written["solution"] == "<answer>A</answer>"
    assert written["data_source"] == "mine"


@pytest.mark.parametrize("write", [to_video_r1, to_videop2r])
@pytest.mark.parametrize(
    ("path", "window"),
    [("v.mp4", {"start": 1.5, "end": 3.0}), ("v.mp4", {"end": 3.0}), ("frames", {"fps": 5.0})],
)
def test_the_bounds_of_a_clip_are_written(write, path, window):
    question = Question(
        id="7", problem="How many?", problem_type="numerical", path=path, answer="4",
        meta={WINDOW: window},
    )  # fmt: skip
    assert to_question(write(question), 0).window == window
    theirs = {"problem": "How?", "video": "v.mp4", "answer": "4", "clip": "00:12-00:20"}
    written = write(to_question(theirs, 0))
    assert "start" not in written and written["clip"] == "00:12-00:20"


@pytest.mark.parametrize("kind", ["multiple choice", "multiple-choice", "mcq", float("nan"), ""])
def test_options_in_the_text_are_found_for_every_spelling_of_a_choice(kind):
    text = "What?\nA. left\nB. right"
    record = {"problem": text, "problem_type": kind, "path": "v.mp4", "solution": "B"}
    question = to_question(record, 0)
    assert (question.problem, question.options) == ("What?", ["A. left", "B. right"])
    assert question.problem_type == "multiple choice"


def test_a_new_trace_replaces_the_old_one():
    question = to_question(VIDEOP2R, 0)  # keeps the old trace in meta
    text = render("New.", "So.", "A")
    trace = Trace(question_id="17", text=text, observation="New.", think="So.", answer="A")
    written = to_videop2r(Case(question=question, trace=trace))
    assert [written[key] for key in ("observation", "process", "answer", "output")] == [
        "New.",
        "So.",
        "A",
        text,
    ]


def test_videop2r_traces_become_cot_records_that_video_r1_can_train_on():
    for record in (VIDEOP2R, RL):
        written = to_video_r1(to_case(record, 0))
        assert (
            written["process"]
            == "<observation>I see it move.</observation> <think>It moves right.</think>"
        )
        assert written["solution"] == "<answer>B</answer>"
        assert written["options"] == VIDEO_R1["options"]
        again = to_case(written, 0).trace
        assert (again.observation, again.think, again.answer) == (
            "I see it move.",
            "It moves right.",
            "B",
        )


def test_our_own_case_in_both_formats():
    question = Question(id="q", problem="How many?", problem_type="numerical", answer="5")
    trace = Trace(question_id="q", text="no tags at all")
    case = Case(question=question, trace=trace)
    assert to_video_r1(case)["process"] == "no tags at all"
    assert to_videop2r(case)["output"] == "no tags at all"
    assert to_videop2r(case)["observation"] == ""
