"""The reward check: every reference answer must score exactly 1.0 against itself."""

import json

import pytest
from measures import shared_data
from raw_examples import RL, VIDEO_R1

from p2r.datasets.check_rewards import RewardFailure, check_rewards
from p2r.errors import DataError

CLIP = {"path": "a.mp4"}
GOOD = [
    VIDEO_R1,
    VIDEO_R1 | {"options": ["left", "right"], "solution": "right"},
    CLIP | {"problem": "Count.", "problem_type": "numerical", "solution": "<answer>1,000</answer>"},
    CLIP | {"problem": "How far?", "problem_type": "regression", "solution": "<answer>0</answer>"},
    CLIP | {"problem": "Read.", "problem_type": "OCR", "solution": "<answer>世界 &</answer>"},
    CLIP
    | {"problem": "Describe.", "problem_type": "free-form", "solution": "<answer>dog</answer>"},
]


def check(tmp_path, records):
    path = tmp_path / "questions.json"
    path.write_text(json.dumps(records))
    return check_rewards(path)


def test_good_answers_pass(tmp_path):
    result = check(tmp_path, GOOD)
    assert result.ok
    assert result.questions == result.right
    assert result.questions["multiple choice"] == 2
    assert str(result).splitlines()[0] == "OCR: 1 of 1 reference answers earn 1.0"


def test_failures_name_record_and_reason(tmp_path):
    records = [
        GOOD[0],
        "no object",
        VIDEO_R1 | {"problem_id": 7, "solution": "<answer>E</answer>"},
        GOOD[2] | {"solution": "many"},
        GOOD[5] | {"solution": ""},
    ]
    result = check(tmp_path, records)
    assert not result.ok
    assert not result
    assert result.questions == {"multiple choice": 2, "numerical": 1, "free-form": 1}
    assert result.right == {"multiple choice": 1}
    assert result.failures == [
        RewardFailure(1, None, "not an object: 'no object'"),
        RewardFailure(2, "7", "multiple choice: the reference answer 'E' is none of the options"),
        RewardFailure(3, "3", "numerical: the reference answer 'many' is not a single number"),
        RewardFailure(4, "4", "free-form: the reference answer '' is empty"),
    ]
    assert "record 3 (id 7): multiple choice: the reference answer 'E'" in str(result)
    assert "record 2: not an object" in str(result)


def test_indices_go_on_over_the_parts(tmp_path):
    for part in (1, 3):
        path = tmp_path / f"x.part{part}of3.json"
        path.write_text(json.dumps([RL, RL | {"problem_id": "9", "solution": "?"}]))
    result = check_rewards(tmp_path / "x.part1of3.json")
    assert [failure.index for failure in result.failures] == [1, None, 3]
    assert "x.part2of3.json: this part is missing" in str(result.failures[1])


def test_a_long_report_is_cut(tmp_path):
    report = str(check(tmp_path, [5] * 100)).splitlines()
    assert report[0] == "the file has no readable question"
    assert report[-1] == "… and 80 more"


def test_a_file_without_questions_does_not_pass(tmp_path):
    assert not check(tmp_path, []).ok


def test_a_file_that_is_not_json_is_an_error(tmp_path):
    path = tmp_path / "questions.json"
    path.write_text("nonsense")
    with pytest.raises(DataError):
        check_rewards(path)


def test_real_reference_answers_earn_one(tmp_path):
    log = json.loads((shared_data("predictions") / "videommmu_videorft-3b.json").read_text())
    records = [
        {
            "problem": "?",
            "solution": item["truth"],
            "path": "a.mp4",
            **item,
            "options": str(item["options"]),
        }
        for item in log["items"]
    ]
    result = check(tmp_path, records)
    assert result.ok, str(result)
    assert sum(result.right.values()) == 390
