"""Prompts from files through every stage: generate, filter, SFT, RL and evaluation."""

from __future__ import annotations

import json

import pytest
from prompt_files import FULL, JUDGE
from small import small_recipe

from p2r.cli import run_cli
from p2r.formats import read_cases
from p2r.judges.prompt import judge_prompt_hash
from p2r.records import Case, Trace
from p2r.runs import read_json
from p2r.template import prompt_hash
from p2r.training.sft import train_sft

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures", "judge_fixtures"]
SETTINGS = (
    "sft.max_steps=20",
    "sft.batch_size=4",
    "sft.learning_rate=2e-3",
    "generate.max_tokens=80",
    "rl.steps=1",
    "rl.prompts_per_step=2",
    "rl.group_size=2",
    "rl.micro_batch=4",
    "rl.max_tokens=80",
    "eval.max_tokens=80",
)


def teach(model, media, questions, out, prompt):
    """Return a model that answers the prompt of a file with a sufficient observation."""
    trace = {"observation": "I see two red.", "think": "So.", "answer": "2", "text": ""}
    cases = [Case(question=q, trace=Trace(question_id=q.id, **trace)) for q in questions]
    recipe = small_recipe(model, f"models.prompt={prompt}", *SETTINGS)
    return train_sft(recipe, cases, out, data_root=media)


def test_the_papers_prompts_run_through_every_stage(
    model_folder, media, questions, server, tmp_path
):
    prompt, judge = tmp_path / "paper.jinja", tmp_path / "judge.jinja"
    prompt.write_text(FULL)
    judge.write_text(JUDGE)
    asked = [questions[0], questions[2], questions[3]]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(q.model_dump_json() + "\n" for q in asked))
    teacher = teach(model_folder, media, asked, tmp_path / "teacher", prompt)
    judged_by = f"server:{server.url}#judge"
    overrides = [
        *SETTINGS,
        "sft.max_steps=2",  # the prompts are tested, not the model
        f"models.base={model_folder}",
        f"models.teacher={teacher}",
        f"models.prompt={prompt}",
        f"judging.prompt={judge}",
        *(f"{stage}.judge={judged_by}" for stage in ("filter", "rl", "eval")),
        "threads=1",
        "rl.preflight=0",
    ]
    run = tmp_path / "run"
    options = ["--questions", str(file), "--data-root", str(media)]
    chosen = [part for override in overrides for part in ("--set", override)]
    assert run_cli(["generate", "--run", str(run), *options, *chosen]) == 0
    prompt.unlink()  # the run keeps the prompts
    judge.unlink()
    for command in (
        ["filter"],
        ["sft"],
        ["rl", "--questions", str(file)],
        ["eval", "run", "--model", "pa_grpo", "--questions", str(file)],
    ):
        assert run_cli([*command, "--run", str(run)]) == 0

    expected = prompt_hash(FULL.strip())
    assert all(case.trace.sampling["prompt"] == expected for case in read_cases(run / "sft.jsonl"))
    assert read_json(run / "sft" / "made.json")["style"] == f"file:{expected}"
    assert read_json(run / "pa_grpo" / "made.json")["prompt"] == expected
    made = read_json(run / "results" / "pa_grpo.json")["made"]
    assert made["prompt"]["style"] == f"file:{expected}"
    assert made["prompt"]["template"] == FULL.strip()
    assert "Step 1, <observation>" in made["prompt"]["example"]
    assert made["judge"] == f"server:judge+prompt-{judge_prompt_hash(JUDGE.strip())[:6]}"
    sent = json.dumps(server.bodies[0])
    assert "A writer saw the" in sent and "Right answer: 2" in sent
