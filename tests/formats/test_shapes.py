"""`p2r.formats.shapes`: question records of other projects, and what is inferred for them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2r.formats.fields import INFERRED
from p2r.formats.rawrecords import to_case, to_question, to_video_r1
from p2r.formats.shapes import all_shapes
from p2r.formats.values import BadValue, infer_problem_type, split_options

TEXT = "options from the text of the question"
TYPE = "problem type from the options and the answer"
TURNS = [
    {"from": "human", "value": "<video>\nWhat?\nA. x\nB. y"},
    {"from": "gpt", "value": "<think>t</think><answer>B</answer>"},
]
MESSAGES = [
    {"role": "system", "content": "You are helpful."},
    {"role": "user", "content": "<video>What?\nA. x\nB. y"},
    {"role": "assistant", "content": "B"},
]
PARTS = [
    {
        "role": "user",
        "content": [
            {"type": "video", "video": "v.mp4"},
            {"type": "text", "text": "What?\nA. x\nB. y"},
        ],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "B"}]},
]
CHOICES = {
    "LLaVA": {"id": "1", "video": "v.mp4", "conversations": TURNS},
    "ms-swift": {"messages": MESSAGES, "videos": ["v.mp4"]},
    "parts": {"messages": PARTS},
    "TRL": {"prompt": MESSAGES[1:2], "solution": "<answer>B</answer>", "video": "v.mp4"},
    "GRPO": {"question": "What?\nA. x\nB. y", "videos": "v.mp4", "answer": "B"},
    "RTS": {"problem": "What?\nA. x\nB. y\n", "solution": "B", "video": "v.mp4", "qid": 1},
    "in one line": {"query": "What? (A) x (B) y", "video_path": "v.mp4", "gt": "B"},
    "titled": {"question": "What?\nOptions:\nA) x\nB) y", "video": "v.mp4", "answer": "B"},
    "candidates": {
        "question": "What?",
        "candidates": ["A. x", "B. y"],
        "video": "v.mp4",
        "gt": "B",
    },
    "columns": {
        "question": "What?",
        "A": "x",
        "B": "y",
        "C": None,
        "video": "v.mp4",
        "answer": "B",
    },
    "numbered": {"question": "What?", "a0": "x", "a1": "y", "video": "v.mp4", "answer": "B"},
    "hub feature": {"question": "What?\nA. x\nB. y", "video": {"path": "v.mp4"}, "answer": "B"},
    "no options": {
        "problem": "What?\nA. x\nB. y",
        "options": float("nan"),
        "path": "v.mp4",
        "solution": "B",
    },
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_in_any_shape_is_the_same_question(name):
    question = to_question(CHOICES[name], 0)
    assert (question.problem, question.options) == ("What?", ["A. x", "B. y"])
    assert (question.answer, question.path) == ("B", "v.mp4")
    assert (question.problem_type, question.data_type) == ("multiple choice", "video")
    assert TYPE in question.meta[INFERRED]


@pytest.mark.parametrize("shape", all_shapes(), ids=lambda shape: shape.name)
def test_the_example_of_a_shape_is_a_question(shape):
    assert shape.matches(shape.example)
    assert to_question(shape.example, 0).path


@pytest.mark.parametrize(
    ("identity", "read"), [("1", "1"), (3.0, "3"), ("3.0", "3.0"), (None, "4")]
)
def test_the_id_is_read_as_written_but_a_whole_float_is_an_integer(identity, read):
    assert to_question(CHOICES["GRPO"] | {"id": identity}, 4).id == read


def test_whole_floats_of_a_table_are_integers_in_answers_and_options():
    record = {"question": "How many?", "video": "v.mp4", "options": [1.0, 2.5, 3.0], "answer": 3.0}
    question = to_question(record, 0)
    assert (question.options, question.answer) == (["1", "2.5", "3"], "3")


@pytest.mark.parametrize("empty", [None, "", float("nan")])
def test_an_empty_column_does_not_hide_the_answer_of_a_chat(empty):
    record = CHOICES["LLaVA"] | {"solution": empty, "output": empty}
    assert to_question(record, 0).answer == "B"
    assert to_case(record, 0).trace.think == "t"


def test_a_chat_with_thoughts_is_also_a_trace():
    trace = to_case(CHOICES["LLaVA"], 0).trace
    assert (trace.think, trace.answer) == ("t", "B")


def test_what_is_written_again_can_be_read_again():
    question = to_question(CHOICES["LLaVA"], 0)
    again = to_question(to_video_r1(question), 0)
    fields = ("problem", "options", "answer", "path", "problem_type", "data_type")
    assert [getattr(again, name) for name in fields] == [getattr(question, name) for name in fields]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (
            CHOICES["LLaVA"] | {"conversations": TURNS * 2},
            "a chat of 2 questions and 2 answers: give one question per record",
        ),
        (
            CHOICES["ms-swift"] | {"videos": ["v.mp4", "w.mp4"]},
            "the text has 1 media placeholder(s) (video), but the record has 2 media file(s)",
        ),
        (
            {
                "conversations": [{"from": "human", "value": "<image><image>Same?"}],
                "image": "a.png",
            },
            "the text has 2 media placeholder(s) (image image), but the record has 1 media file(s)",
        ),
        ({"conversations": TURNS}, "no media: none of path,"),
        (CHOICES["GRPO"] | {"videos": ["1.jpg", "2.jpg"]}, "videos is a list of 2 pictures"),
        (
            {"messages": [{"role": "judge", "content": "x"}]},
            "a turn of the chat has the unknown role",
        ),
    ],
)
def test_an_unusable_record_says_why(record, reason):
    with pytest.raises(BadValue, match=re.escape(reason)):
        to_question(record, 0)


def test_media_of_the_named_data_type_come_first():
    record = CHOICES["GRPO"] | {"image": "a.png"}
    assert to_question(record | {"data_type": "video"}, 0).path == "v.mp4"
    assert to_question(record | {"data_type": "image"}, 0).path == "a.png"


def test_videommmu_and_vsi_bench_name_their_videos():
    lecture = {"id": "dev_Biology_3", "question": "How many?", "options": ["3", "4"], "answer": "B"}
    assert to_question(lecture, 0).path == "dev_Biology_3.mp4"
    scene = {"dataset": "arkitscenes", "scene_name": "4106", "question": "How far?"}
    scene |= {"question_type": "object_abs_distance", "ground_truth": "4.1", "options": None}
    question = to_question(scene, 0)
    assert (question.path, question.problem_type) == ("arkitscenes/4106.mp4", "regression")
    assert question.answer == "4.1"


def test_mvbench_with_bounds_and_frames():
    record = {
        "video": "tvqa/ep1",
        "question": "Who?",
        "candidates": ["Ann", "Bob"],
        "answer": "Bob",
    }
    record |= {"start": 2.0, "end": 6.0, "data_type": "frame", "fps": 3}
    question = to_question(record, 0)
    assert (question.options, question.answer) == (["Ann", "Bob"], "Bob")
    assert question.data_type == "video"
    assert question.window == {"start": 2.0, "end": 6.0, "fps": 3.0}


@pytest.mark.parametrize(
    "bounds",
    [
        {"start": 1, "end": 62.5},
        {"start": "1", "end": "62.5"},
        {"start": "00:01", "end": "1:02.5"},
        {"video_start": 1.0, "video_end": 62.5},
        {"start_time": "00:00:01", "end_time": "00:01:02.5"},
        {"clip": [1, 62.5]},
        {"clip": "[1, 62.5]"},
        {"bound": {"start": 1, "end": 62.5}},
        {"clip": [[1, 62.5]]},
    ],
)
def test_bounds_in_any_spelling(bounds):
    assert to_question(CHOICES["GRPO"] | bounds, 0).window == {"start": 1.0, "end": 62.5}


@pytest.mark.parametrize(
    "bounds",
    [{}, {"start": None, "end": None}, {"start": 0, "end": 0}, {"bound": True}, {"clip": "clip_7"}],
)
def test_a_whole_clip_has_no_bounds(bounds):
    assert to_question(CHOICES["GRPO"] | bounds, 0).window == {}


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("Who?\nA. x\nB. y", "Who?", ["A. x", "B. y"]),
        ("Who?\n(A) x\n(B) y\n", "Who?", ["A. x", "B. y"]),
        ("Who?\n\nA: x\n\nB: y", "Who?", ["A. x", "B. y"]),
        ("Who?\nA. x\nB. y\nAnswer by letter.", "Who?\nAnswer by letter.", ["A. x", "B. y"]),
        ("Who? A. x B. y C. z", "Who?", ["A. x", "B. y", "C. z"]),
        ("Who?\nB. subtilis\nE. coli", None, []),  # names, not labels
        ("Was A. Smith here?", None, []),
        ("Was A. Smith or J. Doe here?", None, []),
        ("A. only one", None, []),
    ],
)
def test_options_in_the_text(text, question, options):
    assert split_options(text) == (text if question is None else question, options)


@pytest.mark.parametrize(
    ("options", "answer", "kind"),
    [
        (["x", "y"], "B", "multiple choice"),
        (["x", "y"], "4", "multiple choice"),
        ([], "B", "multiple choice"),
        ([], "(B)", "multiple choice"),
        ([], "4", "numerical"),
        ([], "-1,200.5", "numerical"),
        ([], "12 %", "numerical"),
        ([], "4 cats", "free-form"),
        ([], "yes", "free-form"),
        ([], "", "free-form"),
    ],
)
def test_a_missing_problem_type(options, answer, kind):
    assert infer_problem_type(options, answer) == kind


KEYS = [
    *("problem", "question", "prompt", "messages", "conversations", "options", "A", "B", "a0"),
    *("solution", "answer", "video", "videos", "path", "image", "data_type", "problem_type"),
    *("question_type", "scene_name", "id", "problem_id", "start", "end", "clip", "bound", "fps"),
    *("output", "process", "trace", "meta", "role", "from", "value", "content", "type", "text"),
]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["v.mp4", "video", "user", "gpt", "text", "B", "A. x\nB. y", "[1, 2]", "mc"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8))
def test_any_record_is_read_or_refused_with_a_reason(record):
    for convert in (to_question, to_case):
        try:
            item = convert(record, 0)
        except ValueError as reason:  # BadValue, or pydantic's
            assert str(reason)
        else:
            question = getattr(item, "question", item)
            assert question.path or question.data_type == "video"
            assert all(isinstance(value, float) for value in question.window.values())


def test_deep_records_are_refused():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    for key in ("video", "options", "messages", "clip", "solution", "problem"):
        with pytest.raises(BadValue, match="is nested too deeply"):
            to_question({"question": "Why?", key: deep}, 0)
