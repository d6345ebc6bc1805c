"""Logs of a training stage: whole lines whatever a model writes, each step and question once."""

import json

from p2r.records import Question
from p2r.training.common import append_lines, keep_until, record_skipped

# Characters that end a line to `str.splitlines`, one of three bytes, half a pair.
ODD = "a\u2028b\x85c\u4e00\ud800"


def test_what_a_model_writes_does_not_end_a_line(tmp_path):
    log = tmp_path / "rollouts.jsonl"
    lines = [{"trace": {"step": step, "text": ODD}} for step in (1, 2, 3)]
    append_lines(log, lines)
    keep_until(log, 2, "trace.step")
    assert [json.loads(line) for line in log.read_text().splitlines()] == lines[:2]


def test_a_line_torn_anywhere_is_dropped(tmp_path):
    log = tmp_path / "rollouts.jsonl"
    append_lines(log, [{"step": 1, "text": ODD}])
    whole = log.read_bytes()
    for length in range(len(whole)):
        log.write_bytes(whole + whole[:length])
        keep_until(log, 1, "step")
        assert log.read_bytes() == whole


def test_what_is_left_out_is_listed_once(tmp_path):
    question = Question(id="q", problem="?", problem_type="OCR", path=f"{ODD}.mp4")
    for _ in range(2):
        record_skipped(tmp_path, [(question, f"no {ODD}")])
    (row,) = map(json.loads, (tmp_path / "skipped.jsonl").read_text().splitlines())
    assert row == {"id": "q", "path": f"{ODD}.mp4", "reason": f"no {ODD}"}
