"""Questions with several media, from a file to generation, evaluation and SFT; RL refuses them."""

import json

import pytest

from p2r import stages
from p2r.engines import load_engine
from p2r.errors import TrainingError
from p2r.evaluation.run import evaluate
from p2r.formats import read_questions
from p2r.pipeline import collect_cases
from p2r.records import Case, Trace
from p2r.runs import open_run, read_json
from p2r.training.grpo import plan_steps
from p2r.training.rl_checks import find_no_reward
from p2r.training.sft import train_sft

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
TWO = {"question": "How many in both?", "videos": ["long.mp4", "short.mp4"], "answer": 2}
MIXED = {"question": "<image>Which clip? <video>", "video": "twin.mp4", "images": "still.png"}


@pytest.fixture
def asked(tmp_path):
    file = tmp_path / "asked.jsonl"
    records = [TWO | {"clips": [[0, 1], None]}, MIXED | {"answer": "none"}]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def test_all_media_of_a_question_are_used(asked, media, model_folder, tmp_path):
    settings = [f"models.teacher={model_folder}", "generate.max_tokens=4", "threads=1"]
    run = open_run(tmp_path / "run", "tiny1", [*settings, "eval.max_tokens=4"])
    journal = stages.generate(run, questions=asked, data_root=media)
    traces = {case.question.id: case.trace for case in journal.cases()}
    two, mixed = traces["0"], traces["1"]
    assert two.media["end"] == 1.0 and [clip["total_frames"] for clip in two.media["more"]] == [4]
    assert mixed.media["decoder"] == "image" and mixed.media["more"][0]["decoder"] != "image"
    engine = load_engine(run.recipe, str(model_folder), batch_size=2)
    questions = list(read_questions(asked))
    cases, result = evaluate(run.recipe, questions, engine, run, "tiny", None, media)
    assert [len(case.trace.media["more"]) for case in cases] == [1, 1]
    assert (result["questions"], result["unreadable"]) == (2, [])
    collect_cases(run)
    trace = {"observation": "I see two.", "think": "So.", "answer": "2"}
    kept = [Case(question=q, trace=Trace(question_id=q.id, text="", **trace)) for q in questions]
    sft = ["sft.max_steps=1", "sft.batch_size=2", f"models.base={model_folder}", "threads=1"]
    recipe = open_run(tmp_path / "sft", "tiny1", sft).recipe
    assert (train_sft(recipe, kept, tmp_path / "out", data_root=media) / "config.json").is_file()
    assert not (tmp_path / "out" / "skipped.jsonl").exists()
    with pytest.raises(TrainingError, match="2 media files, but RL takes one"):
        plan_steps(questions, recipe.rl, 0, find_no_reward)
    assert read_json(run.path("eval", "tiny.json"))["questions"] == 2
