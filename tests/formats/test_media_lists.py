"""Questions with several media: what readers, identity, prompts and writers do with them."""

import re

import pytest

from p2r.formats import content_of, read_questions, settle_data_type
from p2r.formats.rawrecords import to_question, to_video_r1
from p2r.formats.values import BadValue
from p2r.records import Question
from p2r.template import build_messages, build_prompt

ASKED = {"question": "Same?\nA. yes\nB. no", "answer": "A"}
IN_TEXT = "Is <video> like <image>, or like <video>?"
PARTS = [
    {"type": "video", "video": "a.mp4", "video_start": 1, "video_end": 2},
    {"type": "text", "text": "and"},
    {"type": "image_url", "image_url": {"url": "c.png"}},
    {"type": "text", "text": "Same?\nA. yes\nB. no"},
]
A, B, C = ("a.mp4", "video", {}), ("b.mp4", "video", {}), ("c.png", "image", {})


def bounded(medium, start, end):
    return (*medium[:2], {"start": start, "end": end})


# What a record adds: its media as (path, data type, bounds).
MEDIA = {
    "a list": ({"videos": ["a.mp4", "b.mp4"]}, [A, B]),
    "a list as text": ({"video": "['a.mp4', 'b.mp4']"}, [A, B]),
    "path": ({"path": ["a.mp4", "c.png"]}, [A, C]),
    "two kinds": ({"video": "a.mp4", "images": ["c.png"]}, [A, C]),
    "the order of the record": ({"image": "c.png", "video": "a.mp4"}, [C, A]),
    "the named data type first": (
        {"image": "c.png", "video": "a.mp4", "data_type": "video"},
        [A, C],
    ),
    "numbered": ({"video_1": "a.mp4", "video_2": "b.mp4", "video_3": None}, [A, B]),
    "objects with bounds": (
        {"videos": [{"path": "a.mp4", "start": 1, "end": "0:02"}, {"video": "b.mp4"}]},
        [bounded(A, 1.0, 2.0), B],
    ),
    "a pair of bounds for each": (
        {"videos": ["a.mp4", "b.mp4"], "clips": [[0, 1], [2, 3]]},
        [bounded(A, 0.0, 1.0), bounded(B, 2.0, 3.0)],
    ),
    "starts and ends": (
        {"videos": ["a.mp4", "b.mp4"], "start": [0, 2], "end": [1, 3]},
        [bounded(A, 0.0, 1.0), bounded(B, 2.0, 3.0)],
    ),
    "no bounds for one": (
        {"videos": ["a.mp4", "b.mp4"], "clip": [None, [2, 3]]},
        [A, bounded(B, 2.0, 3.0)],
    ),
    "bounds of the only video": (
        {"video": "a.mp4", "images": ["c.png"], "start": 1, "end": 2},
        [bounded(A, 1.0, 2.0), C],
    ),
    "places in the text": (
        {"question": f"<image><video>\n{ASKED['question']}", "video": "a.mp4", "image": "c.png"},
        [C, A],
    ),
    "places of another kind": (
        {"question": f"<image> <image> {ASKED['question']}", "videos": ["a.mp4", "b.mp4"]},
        [A, B],
    ),
}


def media_of(question):
    return [(medium.path, medium.data_type, medium.window) for medium in question.media]


@pytest.mark.parametrize("name", MEDIA)
def test_all_media_are_read_in_order(name):
    added, media = MEDIA[name]
    question = to_question(ASKED | added, 0)
    assert media_of(question) == media
    assert (question.path, question.data_type, question.window) == media[0]
    assert (question.problem, question.options) == ("Same?", ["A. yes", "B. no"])
    assert media_of(Question.model_validate_json(question.model_dump_json())) == media
    again = to_video_r1(question)
    assert media_of(to_question(again, 0)) == media, "written and read again"
    types = [part["type"] for part in build_messages(question)[0]["content"]]
    assert types == [kind for _, kind, _ in media] + ["text"]


def test_a_chat_has_its_media_in_their_places():
    chat = {"messages": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": "A"}]}
    question = to_question(chat, 0)
    assert media_of(question) == [bounded(A, 1.0, 2.0), C]
    content = build_messages(question, "direct")[0]["content"]
    assert [part["type"] for part in content] == ["video", "text", "image", "text"]
    assert content[1]["text"].strip() == "and"


def test_places_inside_the_text_stay_there():
    question = to_question({"question": IN_TEXT, "videos": ["a.mp4", "b.mp4"], "image": "c.png"}, 0)
    assert media_of(question) == [A, C, B]
    content = build_messages(question, "direct")[0]["content"]
    assert [part.get("text") or part["type"] for part in content] == [
        *("Is ", "video", " like ", "image", ", or like ", "video"),
        "?\nGive only the answer.",
    ]


def test_prompts_speak_of_media_and_one_medium_keeps_its_word():
    question = to_question(ASKED | MEDIA["two kinds"][0], 0)
    assert "what the media shows" in build_prompt(question)
    assert "what the video shows" in build_prompt(to_question(ASKED | {"video": "a.mp4"}, 0))


def test_questions_with_other_further_media_are_other_questions():
    two = [to_question(ASKED | {"videos": ["a.mp4", name]}, 0) for name in ("b.mp4", "c.mp4")]
    later = to_question(ASKED | {"videos": ["a.mp4", "b.mp4"], "clips": [None, [1, 2]]}, 0)
    assert len({content_of(question) for question in (*two, later)}) == 3


@pytest.mark.parametrize(
    ("added", "reason"),
    [
        ({"videos": ["a.mp4", "b.mp4"], "clip": [0, 1]}, "bounds of a clip for 2 videos, [0, 1]"),
        ({"video": ["1.jpg", "2.jpg"]}, "video is a list of 2 pictures: put the frames"),
        (
            {"question": "<video>Same?", "videos": ["a.mp4", "b.mp4"]},
            "the text has 1 media placeholder(s) (video), but the record has 2 media file(s)",
        ),
    ],
)
def test_unclear_media_are_refused(added, reason):
    with pytest.raises(BadValue, match=re.escape(reason)):
        to_question(ASKED | added, 0)


def test_animated_pictures_among_several_are_videos(tmp_path):
    from PIL import Image

    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    for name in ("m.gif", "n.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    (tmp_path / "q.jsonl").write_text(
        '{"question": "Same?", "images": ["m.gif", "n.gif"], "answer": "no"}'
    )
    (question,) = read_questions(tmp_path / "q.jsonl")
    settled = settle_data_type(question, tmp_path)
    assert [medium.data_type for medium in settled.media] == ["video", "video"]


def test_ten_numbered_pictures_are_all_read_in_order():
    pictures = {f"image_{number}": f"{number}.png" for number in range(12, 0, -1)}
    found = to_question({**ASKED, **pictures}, 0).media
    assert [medium.path for medium in found] == [f"{number}.png" for number in range(1, 13)]
