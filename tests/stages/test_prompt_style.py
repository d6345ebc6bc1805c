"""One rule decides the prompt style of every stage, and the result files record it."""

from __future__ import annotations

import json

import pytest
from scripted import ScriptedEngine, WordJudge

from p2r import engines, stages
from p2r.evaluation.benchmarks import find_benchmark
from p2r.evaluation.run import result_path
from p2r.runs import open_run, read_json
from p2r.runs.recipe import load_recipe
from p2r.template import prompt_hash, render

AGNOSTIC = ["sft.target=agnostic", "eval.judge=oracle"]


@pytest.mark.parametrize("target", ["process", "agnostic"])
@pytest.mark.parametrize("prompt", ["brief", "full"])
def test_the_teacher_observes_and_later_stages_follow_sft(target, prompt):
    recipe = load_recipe("tiny", [f"models.prompt={prompt}", f"sft.target={target}"])
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
    return open_run(tmp_path / "run", "tiny", AGNOSTIC)


def write_questions(folder):
    file = folder / "test.jsonl"
    lines = [
        {"id": n, "path": "", "question_type": "route_planning", "question": "Which way?",
         "ground_truth": "A", "options": ["A. left", "B. right"]}
        for n in range(2)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.mark.parametrize(
    ("given", "style"), [(None, "brief-think"), ("brief", "brief"), ("direct", "direct")]
)
def test_a_benchmark_asks_a_process_agnostic_model_without_an_observation(
    run, tmp_path, loaded, given, style
):
    name = find_benchmark("vsibench").name
    file = write_questions(tmp_path)
    stages.evaluate_benchmark(run, "model", "sft-vsi", name, file, style=given)
    made = read_json(result_path(run, "sft-vsi"))["made"]
    assert loaded == [style]
    assert made["prompt"]["style"] == style
    assert made["prompt"]["hash"] == made["sampling"]["prompt"] == prompt_hash(style)
    assert ("Observe" in made["prompt"]["example"]) == (style == "brief")


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
