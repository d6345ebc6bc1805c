"""Every file of questions or media in the shared inputs is read right, or refused with a reason.

`tests/formats/test_shapes.py`, `tests/stages/test_inputs.py` and `tests/video/test_video.py` have
small twins of these inputs.
"""

import pytest
from measures import shared_data

from p2r.formats import read_questions, settle_data_type, tell_apart
from p2r.video import sample_frames

AB = ["A. left", "B. right"]
XY = ["A. x", "B. y"]
NO_MEDIA, NO_TEXT = "no media:", "no problem text: the keys are"
# File: (id, options, problem type, data type, path, answer, bounds) of each question.
READ = {
    "reports/videokey.json": [
        ("0", AB, "multiple choice", "video", "plain.mp4", "B", {}),
        ("1", AB, "multiple choice", "video", "plain.mp4", "B", {}),
        ("2", AB, "multiple choice", "video", "plain.mp4", "B", {}),
        ("3", AB, "multiple choice", "image", "still.png", "B", {}),
    ],
    "reports/clip.json": [
        (str(n), AB, "multiple choice", "video", "plain.mp4", "B", {"start": 1.0, "end": 1.5})
        for n in range(3)
    ],
    "reports/pretty_obj.json": [("0", AB, "multiple choice", "video", "plain.mp4", "B", {})],
    "reports/hf.parquet": [("0", AB, "multiple choice", "video", "plain.mp4", "B", {})],
    "reports/mv/json/action_sequence.json": [
        (
            "0",
            ["block left", "block right"],
            "multiple choice",
            "video",
            "a.mp4",
            "block right",
            {"start": 1.2, "end": 1.8},
        )
    ],
    "reports/mv/json/episodic_reasoning.json": [
        (
            "0",
            ["Ann", "Bob"],
            "multiple choice",
            "video",
            "tvqa/ep1",
            "Bob",
            {"start": 2.0, "end": 6.0},
        )
    ],
    "predictions/rts.jsonl": [
        ("1", ["A. yellow", "B. green"], "multiple choice", "video", "v.mp4", "B.", {})
    ],
    "predictions/llava.json": [("1", XY, "multiple choice", "video", "v.mp4", "B", {})],
    "predictions/grpo.json": [("0", XY, "multiple choice", "video", "v.mp4", "B", {})],
    "predictions/eval_mvbench.json": [
        ("1", XY, "multiple choice", "video", "./MVBench/1.mp4", "B", {})
    ],
    "predictions/perception_video.json": [
        (
            "dev_Biology_3",
            ["3, 3", "3, 4"],
            "multiple choice",
            "video",
            "dev_Biology_3.mp4",
            "B",
            {},
        )
    ],
}
# File: the reason why none of its records is a question.
REFUSED = {
    "reports/mv/json/action_count.json": NO_MEDIA,
    "predictions/vsi_q.json": NO_MEDIA,
    "predictions/same_id.jsonl": NO_MEDIA,
    "predictions/index.jsonl": NO_MEDIA,
    "predictions/tc_yes_no.json": NO_MEDIA,
    "predictions/index_plain.json": NO_TEXT,
    "predictions/conditions.jsonl": NO_TEXT,
    "predictions/preds.parquet": NO_TEXT,
    "predictions/u16.json": NO_TEXT,
    "predictions/bom.json": NO_TEXT,
    "reports/reward_cases.jsonl": NO_TEXT,
}


@pytest.mark.parametrize("name", READ)
def test_a_file_of_questions_is_read(name):
    bad = []
    found = [
        (q.id, q.options, q.problem_type, q.data_type, q.path, q.answer, q.window)
        for q in read_questions(shared_data(f"inputs/{name}"), bad.append)
    ]
    assert (found, bad) == (READ[name], [])


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_usable_questions_is_explained(name):
    bad = []
    assert list(read_questions(shared_data(f"inputs/{name}"), bad.append)) == []
    assert bad and all(record.reason.startswith(REFUSED[name]) for record in bad)


def test_options_in_every_form():
    bad = []
    found = read_questions(shared_data("inputs/reports/options.json"), bad.append)
    options = {int(question.id): question.options for question in found}
    assert all(options[n] == AB for n in (0, 1, 2, 3, 4, 10, 11, 16, 17, *range(19, 28)))
    assert options[9] == ["A. left"]
    assert [record.index for record in bad] == [7, 18, 28]
    assert bad[0].reason.startswith("the answer 1 may count the options from 0 or from 1")


def test_an_id_with_several_questions_keeps_all_of_them():
    repeats = []
    path = shared_data("inputs/predictions/float_ids.json")
    found = list(tell_apart(read_questions(path), repeats.append))
    assert (len({question.id for question in found}), found[0].id, repeats) == (3, "76", [])


def test_an_animated_picture_without_a_data_type_is_a_video():
    path = shared_data("inputs/reports/gif.json")
    animated = [q for q in read_questions(path) if q.path == "anim.webp"]
    assert [settle_data_type(q, path.parent).data_type for q in animated] == ["video", "video"]


@pytest.mark.parametrize(
    ("name", "total", "note"),
    [
        ("anim.webp", 20, ""),
        ("big_badidr.mp4", 364, "364 of 400 frames readable: "),
        ("pq.mp4", 10, "HDR (PQ) converted to SDR"),
        ("vfr.mp4", 40, "variable frame rate: sampled by time"),
    ],
)
def test_a_media_file_is_sampled_evenly_over_its_time(name, total, note):
    found = sample_frames(shared_data(f"inputs/reports/{name}"), 8)
    assert found.total_frames == total
    assert found.note.startswith(note) and bool(found.note) == bool(note)
    steps = [b - a for a, b in zip(found.timestamps, found.timestamps[1:], strict=False)]
    assert max(steps) <= 2.01 * min(steps)
