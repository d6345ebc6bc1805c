"""The folder of a training stage: logs without broken or repeated lines, and dashboards.

Dashboards are off by default, stay on this machine and show each step once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import forks
import pytest
from small import read_lines, small_recipe
from test_sft import cases_of

from p2r.errors import TrainingError
from p2r.records import Question
from p2r.training.sft import train_sft
from p2r.training.stage import append_lines, keep_until, record_skipped, trackers

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
SETTINGS = ("sft.max_steps=2", "sft.batch_size=2")
# Characters that end a line to `str.splitlines`, one of three bytes, half a pair.
ODD = "a\u2028b\x85c\u4e00\ud800"


def test_no_text_of_a_model_breaks_a_line(tmp_path):
    log = tmp_path / "rollouts.jsonl"
    lines = [{"trace": {"step": step, "text": ODD}} for step in (1, 2, 3)]
    append_lines(log, lines)
    keep_until(log, 2, "trace.step")
    assert [json.loads(line) for line in log.read_text().splitlines()] == lines[:2]


def test_a_half_written_line_is_dropped(tmp_path):
    log = tmp_path / "rollouts.jsonl"
    append_lines(log, [{"step": 1, "text": ODD}])
    whole = log.read_bytes()
    for length in range(len(whole)):
        log.write_bytes(whole + whole[:length])
        keep_until(log, 1, "step")
        assert log.read_bytes() == whole


def test_a_skipped_question_is_listed_once(tmp_path):
    question = Question(id="q", problem="?", problem_type="OCR", path=f"{ODD}.mp4")
    for _ in range(2):
        record_skipped(tmp_path, [(question, f"no {ODD}")])
    (row,) = map(json.loads, (tmp_path / "skipped.jsonl").read_text().splitlines())
    assert row == {"id": "q", "path": f"{ODD}.mp4", "reason": f"no {ODD}"}


def test_an_unfinished_line_of_skipped_questions_is_cut_off(tmp_path):
    listed = tmp_path / "skipped.jsonl"
    listed.write_text('{"id": "a"}\n{"id": "b", "pa')
    for name in ("b", "c", "a"):
        question = Question(id=name, problem="?", problem_type="OCR", path="x.mp4")
        record_skipped(tmp_path, [(question, "no file")])
    assert [json.loads(line)["id"] for line in listed.read_text().splitlines()] == ["a", "b", "c"]


# ------------------------------------------------------------------------------------- dashboards


def scalars(folder: Path, tag: str) -> dict[int, float]:
    """Return the values of a tag by step, read with TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    found = events.Scalars(tag)
    assert len({event.step for event in found}) == len(found), "each step once"
    return {event.step: event.value for event in found}


def train(out: str, model: str, media: str, questions: list, report_to: str) -> Path:
    recipe = small_recipe(Path(model), *SETTINGS, f"report_to={report_to}")
    return train_sft(recipe, cases_of(questions), out, data_root=media)


def test_tensorboard_shows_what_the_metrics_file_holds(model_folder, media, questions, tmp_path):
    train(tmp_path / "sft", model_folder, media, questions[2:], "tensorboard")
    rows = read_lines(tmp_path / "sft" / "metrics.jsonl")
    for name in ("loss", "grad_norm"):
        found = scalars(tmp_path / "sft" / "tensorboard", f"train/{name}")
        assert found == {row["step"]: pytest.approx(row[name], rel=1e-6) for row in rows}
    assert len(rows) == 2


def test_nothing_is_reported_by_default(model_folder, media, questions, tmp_path):
    train(tmp_path / "sft", model_folder, media, questions[2:], "none")
    assert {file.name for file in (tmp_path / "sft").iterdir()} == {
        "made.json",
        "metrics.jsonl",
        "model",
    }
    assert trackers("tensorboard", tmp_path, 0, main_process=False) == []


def test_a_resumed_stage_shows_no_step_twice(tmp_path):
    state = SimpleNamespace(is_world_process_zero=True, is_hyper_param_search=False, global_step=0)
    arguments = SimpleNamespace(output_dir="", to_json_string=lambda: "{}")
    for first, steps, value in ((0, (1, 2, 3), 1.0), (2, (3, 4), 2.0)):
        (callback,) = trackers("tensorboard", tmp_path, first, main_process=True)
        callback.on_train_begin(arguments, state, None)
        for state.global_step in steps:
            callback.on_log(arguments, state, None, logs={"loss": value})
        callback.on_train_end(arguments, state, None)
    found = scalars(tmp_path / "tensorboard", "train/loss")
    assert found == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(TrainingError, match="pip install trackio, or set report_to=none"):
        trackers("trackio", tmp_path, 0, main_process=True)


def track(out: Path, model: Path, media: Path, questions: list[Question]) -> None:
    """Train with trackio and print what it has stored."""
    forks.forget("trackio")  # TRL imports it, and it reads the environment when it is imported
    train(out, model, media, questions, "trackio")
    from trackio.sqlite_storage import SQLiteStorage

    print(json.dumps(SQLiteStorage.get_logs("p2r", "run/sft"), default=str), flush=True)


def test_trackio_keeps_to_this_machine(model_folder, media, questions, tmp_path):
    pytest.importorskip("trackio")
    out, said = tmp_path / "run" / "sft", tmp_path / "said"
    elsewhere = {"TRACKIO_SPACE_ID": "nobody/nothing", "TRACKIO_SERVER_URL": "http://127.0.0.1:9"}
    environment = {**elsewhere, "TRACKIO_DIR": str(tmp_path / "trackio")}
    given = (out, model_folder, media, questions[2:])
    child = forks.start(track, *given, log=said, environment=environment)
    child.join(600)
    child.kill()
    assert child.exitcode == 0, said.read_text()[-2000:]
    rows = read_lines(out / "metrics.jsonl")
    logged = {row["step"]: row for row in json.loads(said.read_text().splitlines()[-1])}
    assert list(tmp_path.glob("trackio/*"))
    assert len(rows) == 2
    for row in rows:
        assert logged[row["step"]]["train/loss"] == pytest.approx(row["loss"])
