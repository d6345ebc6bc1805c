"""`p2r.stages.inputs`: which questions a stage gets, and which are refused."""

import json
from collections import Counter

import pytest
from clips import write_clip
from PIL import Image

from p2r import stages
from p2r.data import read_frames
from p2r.errors import EngineError, UserError
from p2r.runs import Run, model_fingerprint, open_run, write_json
from p2r.runs.recipe import load_recipe
from p2r.stages.inputs import find_questions, remember_source
from p2r.video import FrameCache

ASKED = {"problem_type": "free-form", "data_type": "video", "path": "a.mp4", "solution": "two"}


def find(tmp_path, records):
    """Return the questions that generation gets from the records, and the bad ones by reason."""
    file = tmp_path / "questions.json"
    file.write_text(json.dumps(records))
    run = Run(tmp_path / "run", load_recipe("tiny1"))
    bad: Counter[str] = Counter()
    return find_questions(run, "generate", file, bad=bad)[0], bad


def test_all_questions_of_an_id_are_used_and_repeats_are_counted(tmp_path, caplog):
    problems = [f"Question {number}?" for number in range(800)]
    records = [ASKED | {"problem_id": n % 58, "problem": text} for n, text in enumerate(problems)]
    found, bad = find(tmp_path, [*records, records[3]])
    assert [question.problem for question in found] == problems
    assert len({question.id for question in found}) == 800
    assert [question.id for question in found[:58]] == [str(number) for number in range(58)]
    assert bad == {"the same question with the same id is repeated": 1}
    assert any("742 ids belong to several questions" in message for message in caplog.messages)


def test_a_video_question_without_media_is_a_bad_record(tmp_path):
    records = [
        ASKED | {"problem_id": 1, "problem": "Which?"},
        ASKED | {"problem_id": 2, "problem": "Where?", "path": ""},
        {"id": "3", "problem": "Who?", "problem_type": "free-form", "data_type": "video"},
    ]
    found, bad = find(tmp_path, records)
    assert [question.id for question in found] == ["1"]
    assert [(reason[:9], count) for reason, count in bad.items()] == [("no media:", 2)]
    with pytest.raises(UserError, match=r"holds no usable question \(no media: none of path"):
        find(tmp_path, records[1:])


def test_the_bounds_of_a_clip_reach_the_frames_and_the_trace(tmp_path):
    write_clip(tmp_path / "a.mp4", 40)
    records = [ASKED | {"problem_id": 1, "problem": "Which?", "start": 1.0, "end": 2.0}]
    [question], _ = find(tmp_path, records)
    frames = read_frames(question, root=tmp_path, cache=FrameCache(), max_frames=4)
    assert frames.indices == [10, 13, 17, 20]
    assert (frames.info()["start"], frames.info()["end"]) == (1.0, 2.0)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_number_of_frames_tells_a_video_from_a_picture(tmp_path, suffix):
    pictures = [Image.new("RGB", (64, 64), (40 * number, 0, 0)) for number in range(4)]
    pictures[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / f"still.{suffix}")
    asked = {"problem": "Which?", "problem_type": "free-form", "solution": "red"}
    named = [{"path": f"a.{suffix}"}, {"path": f"still.{suffix}"}]
    given = {"path": f"a.{suffix}", "data_type": "image"}  # what a record says is kept
    found, _ = find(tmp_path, [asked | media for media in (*named, given)])
    assert [question.data_type for question in found] == ["video", "image", "image"]


def test_a_finished_training_from_another_model_is_not_used(tmp_path):
    run = open_run(tmp_path / "run", "tiny1")
    run.path("sft", "model", "model.safetensors").write_bytes(b"new weights")
    run.path("grpo", "model", "model.safetensors").write_bytes(b"w")
    write_json(run.path("grpo", "made.json"), {"start": "of the old weights"})
    with pytest.raises(UserError, match=r"another start model than .*: delete .*grpo"):
        stages.rl(run, "outcome")
    start = model_fingerprint(run.folder / "sft" / "model")
    write_json(run.path("grpo", "made.json"), {"start": start, "reward": "mine 0123"})
    with pytest.raises(UserError, match=r"another reward function \(rl.reward\)"):
        stages.rl(run, "outcome")
    write_json(run.path("grpo", "made.json"), {"start": start})
    run.path("grpo", "rollouts.jsonl").write_text("")
    assert stages.rl(run, "outcome") == run.folder / "grpo" / "model"


def finished(run, stage, **made):
    """Write a finished training into a run."""
    run.path(stage, "model", "model.safetensors").write_bytes(b"w")
    run.path(stage, "rollouts.jsonl").write_text("")
    write_json(run.path(stage, "made.json"), made)
    return run.folder / stage / "model"


def test_a_finished_sft_refuses_another_file_of_traces(tmp_path):
    run, used, other = (tmp_path / name for name in ("run", "used.jsonl", "other.jsonl"))
    run = open_run(run, "tiny1")
    model = finished(run, "sft")
    used.write_text("1\n")
    other.write_text("2\n")
    with pytest.raises(UserError, match=r"trained with .*sft\.jsonl, not with .*used\.jsonl"):
        stages.sft(run, used)
    remember_source(run, "sft", used)
    with pytest.raises(UserError, match=r"none\.jsonl does not exist: give --cases"):
        stages.sft(run, tmp_path / "none.jsonl")
    with pytest.raises(UserError, match=r"not with .*other\.jsonl: leave out --cases"):
        stages.sft(run, other)
    assert stages.sft(run, used) == stages.sft(run) == model
    other.write_text("1\n")
    assert stages.sft(run, other) == model, "a copy"
    (tmp_path / "moved").mkdir()
    used = used.rename(tmp_path / "moved" / "used.jsonl")
    assert stages.sft(run, used) == model


def test_a_finished_rl_refuses_other_questions(tmp_path):
    run = open_run(tmp_path / "run", "tiny1")
    model, other = finished(run, "grpo"), tmp_path / "other.jsonl"
    run.path("data", "train.jsonl").write_text("1\n")
    other.write_text("2\n")
    with pytest.raises(UserError, match=r"none\.jsonl does not exist: give --questions"):
        stages.rl(run, "outcome", tmp_path / "none.jsonl")
    with pytest.raises(UserError, match=r"trained with .*train\.jsonl, not with .*other\.jsonl"):
        stages.rl(run, "outcome", other)
    assert stages.rl(run, "outcome", run.folder / "data" / "train.jsonl") == model
    remember_source(run, "rl", tmp_path / "for another stage.jsonl")
    write_json(run.path("grpo", "source.json"), {"questions": str(other)})
    assert stages.rl(run, "outcome", other) == stages.rl(run, "outcome") == model


def test_a_finished_rl_refuses_another_start_model(tmp_path):
    run = open_run(tmp_path / "run", "tiny1")
    model = finished(run, "grpo", start="someone/hub-id")
    with pytest.raises(EngineError, match=r"no model folder '.*gone'"):
        stages.rl(run, "outcome", start_model=str(tmp_path / "gone"))
    with pytest.raises(UserError, match="another start model than someone/other"):
        stages.rl(run, "outcome", start_model="someone/other")
    assert stages.rl(run, "outcome", start_model="someone/hub-id") == model


def test_a_file_of_questions_that_is_refused_is_not_remembered(tmp_path):
    """Else the next evaluation without --questions would ask them."""
    run, file = open_run(tmp_path / "run", "tiny1"), tmp_path / "questions.json"
    file.write_text(json.dumps([ASKED | {"problem_id": 1, "problem": "?"}]))
    stored = {"benchmark": "own", "items": [{"id": "another"}]}
    write_json(run.path("results", "sft.json"), stored)
    with pytest.raises(UserError, match="add --name OTHER"):
        stages.evaluate(run, "no/model", "sft", file)
    assert not run.path("sources.json").exists() and not run.path("data_root").exists()
