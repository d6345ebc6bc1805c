"""lmms-eval runs p2r's task with p2r's model; result files become its sample logs, and back."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from p2r.cli import run_cli
from p2r.data import resolve_model
from p2r.errors import UserError
from p2r.evaluation.benchmark import Item
from p2r.evaluation.results import Result, import_result, write_result
from p2r.export.lmms_model import Answers
from p2r.export.lmms_task import (
    doc_to_text,
    doc_to_visual,
    process_results,
    write_samples,
    write_task,
)
from p2r.records import Medium, Question, more_media
from p2r.template import INSTRUCTIONS, render

pytest_plugins = ["small_fixtures"]
TEACHER = "playground/teacher"
ROOT = Path(__file__).parents[2]
NEEDED = ("lmms_eval", "evaluate", "sacrebleu", "pytablewriter", "lxml")


@pytest.fixture(scope="module")
def task(questions, media, tmp_path_factory) -> Path:
    """The task folder of five questions: videos, an image, and one without media."""
    folder = tmp_path_factory.mktemp("task")
    file = folder / "small.jsonl"
    file.write_text("".join(q.model_dump_json() + "\n" for q in questions))
    command = ["export", "lmms-task", str(file), "--out", str(folder), "--data-root", str(media)]
    assert run_cli([*command, "--style", "brief"]) == 0
    return folder


def docs(task: Path) -> list[dict]:
    return [json.loads(line) for line in (task / "p2r_small.jsonl").read_text().splitlines()]


def test_a_task_asks_in_the_template_and_scores_with_our_rules(task, media):
    text = (task / "p2r_small.yaml").read_text()
    assert "doc_to_text: !function utils.doc_to_text" in text
    settings = yaml.safe_load(text.replace("!function ", ""))
    assert settings["task"] == "p2r_small" and settings["test_split"] == "test"
    first, *_, last = docs(task)
    assert doc_to_visual(first) == [str(media / "long.mp4")] and doc_to_visual(last) == []
    specific = settings["lmms_eval_specific_kwargs"]
    assert doc_to_text(first, specific["default"]) == f"How many?\n{INSTRUCTIONS['brief']}"
    assert doc_to_text(first, specific["p2r"]) == "How many?"
    right = {"official": 1.0, "robust": 1.0, "format": 1.0}
    assert process_results(first, [render("Two.", "So.", "2")]) == right
    assert process_results(first, ["3"]) == {"official": 0.0, "robust": 0.0, "format": 0.0}


def test_the_model_answers_tasks_of_p2r_and_others(task, media, monkeypatch):
    """Other tasks get the bare answer. A missing video gives an empty answer."""
    asked = []

    class Engine:
        def generate(self, requests, sampling):
            for request in requests:
                asked.append((request.question, request.frames))
                yield SimpleNamespace(key=request.key, text=render("I see.", "So.", "2"), error="")

    monkeypatch.setattr("p2r.export.lmms_model.load_engine", lambda *given, **more: Engine())
    model = Answers(TEACHER, batch_size=1, device="cpu")
    other = {"clip": str(media / "short.mp4"), "text": "Which?\nA. a\nB. b\nAnswer briefly."}
    gone = other | {"clip": str(media / "gone.mp4")}
    model.task_dict = {"p2r_small": {"test": docs(task)}, "other": {"test": [other, gone]}}

    def messages(doc):
        media = {"type": "video", "url": doc["clip"]}
        return [{"role": "user", "content": [media, {"type": "text", "text": doc["text"]}]}]

    def ask(name, place):
        return SimpleNamespace(args=("", messages, {"max_new_tokens": 1}, place, name, "test"))

    found = model.generate_until([ask("p2r_small", 3), ask("other", 0), ask("other", 1)])
    assert found == [render("I see.", "So.", "2"), "2", ""]
    (image, frames), (choice, clip) = asked
    assert image.data_type == "image" and frames.frames.shape[0] == 1
    assert choice.options == ["A. a", "B. b"] and choice.problem == "Which?\nAnswer briefly."
    assert choice.problem_type == "multiple choice" and len(clip) == 4


def test_result_files_become_sample_logs_and_back(tmp_path, capsys):
    kinds = {"problem_type": "multiple choice", "options": ["A. x", "B. y"]}
    items = [
        Item(id=str(n), output=render("I see.", "So.", said), truth="A", problem=f"What {n}?",
             parts={"problem type": "multiple choice"}, clip=f"{n}.mp4", **kinds)
        for n, said in enumerate("ABA")
    ]  # fmt: skip
    file = write_result(Result("playground", "a/model", items), tmp_path / "result.json")
    command = ["export", "samples", str(file), "--out", str(tmp_path / "logs"), "--json"]
    assert run_cli(command) == 0
    log = Path(json.loads(capsys.readouterr().out)["file"])
    assert log.parent.name == "a_model" and log.name.endswith("_samples_p2r_playground.jsonl")
    back = import_result("lmms-eval", log, "playground").items
    names = ("id", "output", "truth", "problem", "options", "problem_type", "clip")
    for item, read in zip(items, back, strict=True):
        assert [getattr(read, n) for n in names] == [getattr(item, n) for n in names]


@pytest.mark.parametrize("path", ["../secret.mp4", "/etc/secret.mp4"])
def test_a_clip_outside_the_media_folder_is_refused(path, tmp_path, capsys):
    asked = {"id": "1", "problem": "?", "problem_type": "OCR", "answer": "a", "path": path}
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps(asked) + "\n")
    command = ["export", "lmms-task", str(file), "--out", str(tmp_path / "tasks")]
    assert run_cli(command) == 2
    assert "secret.mp4" in capsys.readouterr().err
    assert not list((tmp_path / "tasks").glob("*.jsonl"))


def test_a_task_takes_one_medium_for_each_question(tmp_path):
    meta = more_media([Medium(path="b.mp4")])
    asked = {"problem": "?", "problem_type": "OCR", "answer": "a", "path": "a.mp4", "meta": meta}
    question = Question(id="two", **asked)
    file = tmp_path / "asked.jsonl"
    file.write_text(question.model_dump_json() + "\n")
    with pytest.raises(UserError, match="'two' has 2 media files"):
        write_task(file, tmp_path / "tasks")


@pytest.mark.parametrize("model", ["../../x", "..", "/etc/x"])
def test_the_log_of_a_result_stays_in_its_folder(model, tmp_path):
    item = Item(id="1", output="A", truth="A", problem_type="OCR", options=[])
    result = write_result(Result("playground", model, [item]), tmp_path / "result.json")
    log = write_samples(result, tmp_path / "logs").resolve()
    assert log.is_relative_to((tmp_path / "logs").resolve())


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)),
    reason=f"lmms-eval's own command needs {', '.join(NEEDED)}",
)
def test_lmms_eval_runs_the_task_with_the_model(task, tmp_path):
    """From lmms-eval's command line: it finds the model by its entry point."""
    site = tmp_path / "site"
    found = site / "p2r_model-0.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: p2r-model\nVersion: 0\n")
    (found / "entry_points.txt").write_text(
        "[lmms_eval.models]\np2r = p2r.export.lmms_model:manifest\n"
    )
    (site / "sitecustomize.py").write_text(
        "from p2r.patches import torchvision_operators\ntorchvision_operators.apply()\n"
    )
    paths = [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")]
    command = [
        *(sys.executable, "-m", "lmms_eval", "--model", "p2r", "--batch_size", "1"),
        *("--model_args", f"pretrained={resolve_model(TEACHER)}", "--tasks", "p2r_small"),
        *("--include_path", str(task), "--log_samples", "--output_path", str(tmp_path / "logs")),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=900,
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "1",
        },
    )
    logs = list((tmp_path / "logs").rglob("*_samples_p2r_small.jsonl"))
    assert logs, done.stdout[-2000:] + done.stderr[-3000:]
    (log,) = logs
    samples = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(samples) == 5 and all({"official", "format"} <= sample.keys() for sample in samples)
    imported = import_result("lmms-eval", log, "playground")
    # lmms-eval numbers the questions of the file.
    assert sorted(item.id for item in imported.items) == ["0", "1", "2", "3", "4"]
    assert sum(item.output.startswith("<observation>") for item in imported.items) >= 3
