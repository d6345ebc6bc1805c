"""One rule decides the prompt style of every stage, and the result files record it."""

from __future__ import annotations

import json

import pytest
from clips import write_clip
from prompt_files import THINK
from scripted import ScriptedEngine, WordJudge

from p2r import engines, stages
from p2r.cli import run_cli
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.results import read_result, write_result
from p2r.evaluation.run import result_path
from p2r.evaluation.transfer import INPUTS
from p2r.runs import open_run, read_json
from p2r.runs.recipe import load_recipe
from p2r.template import prompt_hash, render, style_name

pytestmark = pytest.mark.slow

AGNOSTIC = ["sft.target=agnostic", "eval.judge=oracle"]


@pytest.mark.parametrize("target", ["process", "agnostic"])
@pytest.mark.parametrize("prompt", ["brief", "full"])
def test_the_teacher_observes_and_later_stages_follow_sft(target, prompt):
    recipe = load_recipe("tiny1", [f"models.prompt={prompt}", f"sft.target={target}"])
    think = {"full": "think", "brief": "brief-think"}[prompt]
    assert recipe.prompt_style("generate") == prompt
    for stage in ("sft", "rl", "eval"):
        assert recipe.prompt_style(stage) == (prompt if target == "process" else think)
        assert recipe.prompt_style(stage, "direct") == "direct"


@pytest.fixture
def loaded(monkeypatch) -> list[str]:
    """The styles that engines are loaded with; the engines always answer A."""
    styles: list[str] = []

    def load_engine(*_, style, **__):
        styles.append(style)
        return ScriptedEngine(lambda question: render("I see A.", "So A.", "A"))

    monkeypatch.setattr(engines, "load_engine", load_engine)
    return styles


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("p2r.stages.evaluation.run_judge", lambda *_: WordJudge())
    return open_run(tmp_path / "run", "tiny1", AGNOSTIC)


def write_questions(folder, count=2):
    write_clip(folder / "a.mp4", 4)
    file = folder / "test.jsonl"
    lines = [
        {"id": n, "path": "a.mp4", "question_type": "route_planning", "question": "Which way?",
         "ground_truth": "A", "options": ["A. left", "B. right"]}
        for n in range(count)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.mark.parametrize(
    ("given", "style"),
    [(None, "brief-think"), ("brief", "brief"), ("direct", "direct"), (THINK, style_name(THINK))],
)
def test_a_benchmark_asks_a_process_agnostic_model_without_an_observation(
    run, tmp_path, loaded, given, style
):
    name = find_benchmark("vsibench").name
    file = write_questions(tmp_path)
    stages.evaluate_benchmark(run, "model", "sft-vsi", name, file, style=given)
    made = read_json(result_path(run, "sft-vsi"))["made"]
    chosen = given or style
    assert loaded == [chosen]
    assert made["prompt"]["style"] == style
    assert made["prompt"]["hash"] == made["sampling"]["prompt"] == prompt_hash(chosen)
    assert ("Observe" in made["prompt"]["example"]) == (style == "brief")
    assert ("First reason" in made["prompt"]["example"]) == (given == THINK)


def test_transfer_asks_the_reader_in_the_recipes_style(run, tmp_path, loaded):
    file = write_questions(tmp_path)
    name = find_benchmark("vsibench").name
    stages.evaluate_benchmark(run, "model", "a", name, file, style="brief")
    files = stages.transfer(run, "reader", "t", result_path(run, "a"), name, file)
    assert loaded == ["brief", "brief-think"]
    for written in files:
        made = read_json(written)["made"]
        assert made["prompt"]["style"] == "brief-think"
        assert made["prompt"]["hash"] == made["sampling"]["prompt"] == prompt_hash("brief-think")


@pytest.mark.parametrize(
    ("options", "style"),
    [
        (["--style", "think"], "think"),
        (["--style", "direct"], "direct"),
        (["--direct"], "direct"),
        (["--style", "FILE"], THINK.strip()),
    ],
)
def test_the_command_line_chooses_the_style_of_one_evaluation(
    run, tmp_path, loaded, options, style, capsys
):
    (tmp_path / "think.jinja").write_text(THINK)
    options = [str(tmp_path / "think.jinja") if part == "FILE" else part for part in options]
    file = write_questions(tmp_path)
    name = find_benchmark("vsibench").name
    command = ["eval", "run", "--run", str(run.folder), "--model", "model", "--benchmark", name]
    assert run_cli([*command, "--questions", str(file), *options]) == 0
    assert loaded == [style]
    assert run_cli([*command, "--questions", str(file), "--style", "long"]) == 2
    assert "no prompt 'long': use full, brief, think" in capsys.readouterr().err


def test_transfer_counts_the_questions_it_leaves_out(run, tmp_path, loaded, capsys):
    file = write_questions(tmp_path, 4)
    name = find_benchmark("vsibench").name
    stages.evaluate_benchmark(run, "model", "a", name, file, style="brief")
    source = read_result(result_path(run, "a"))
    source.items[0].trace["observation"] = None
    del source.items[1]
    write_result(source, tmp_path / "a.json")
    command = ["eval", "transfer", str(tmp_path / "a.json"), "--run", str(run.folder)]
    options = ["--model", "reader", "--benchmark", name, "--questions", str(file)]
    assert run_cli([*command, *options, "--style", "think", "--judge", "none"]) == 0
    expected = {"left out: the source did not answer": 1, "left out: no readable observation": 1}
    shown = capsys.readouterr().err
    for reason, count in expected.items():
        assert f"{count} questions {reason}" in shown
    for given in INPUTS:
        result = read_json(result_path(run, f"reader-transfer-{given.replace(' + ', '-')}"))
        assert result["n"] == 2 and result["made"]["prompt"]["style"] == "think"
        assert result["made"]["judge"] == "none"
        assert {reason: result["counts"][reason] for reason in expected} == expected


def test_a_benchmark_question_without_media_is_unreadable(run, tmp_path, loaded):
    file = write_questions(tmp_path)
    file.write_text(file.read_text().replace("a.mp4", "", 1))
    name = find_benchmark("vsibench").name
    cases, result = stages.evaluate_benchmark(run, "model", "sft-vsi", name, file)
    assert [case.question.path for case in cases] == ["a.mp4"]
    [unreadable] = result["unreadable"]
    assert "no media path in the record: no such file" in unreadable["reason"]
