"""Errors in the input of a training are one line, before any weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from datasets import Dataset
from small import small_recipe
from small_rl import RuleJudge
from test_sft import cases_of

from p2r import data
from p2r.cli import run_cli
from p2r.errors import EngineError, TrainingError
from p2r.records import Question
from p2r.training.grpo import grpo_arguments, plan_steps
from p2r.training.rl_checks import find_no_reward
from p2r.training.sft import train_sft
from p2r.training.trainer import ProcessAwareGRPOTrainer

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
SETTINGS = ("rl.prompts_per_step=2", "rl.group_size=4", "rl.micro_batch=8", "rl.steps=1")


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    """Make loading weights an error."""

    def refuse(*arguments, **settings):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", refuse)


@pytest.fixture
def refused(model_folder, media, questions, tmp_path, capsys):
    """Run `p2r rl` in a new run with the given changes; return its error line."""

    def run(*overrides: str, model: Path = model_folder, asked=questions, root: Path = media):
        file = tmp_path / "questions.jsonl"
        file.write_text("".join(json.dumps(record_of(q)) + "\n" for q in asked))
        settings = [part for each in (*SETTINGS, *overrides) for part in ("--set", each)]
        command = ["rl", "--run", str(tmp_path / "run"), "--model", str(model), *settings]
        assert run_cli([*command, "--questions", str(file), "--data-root", str(root)]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert not any("Traceback" in line for line in lines)
        return lines[-1].removeprefix("error: ")

    return run


def record_of(question: Question | dict) -> dict:
    return question if isinstance(question, dict) else question.model_dump(mode="json")


def test_a_model_without_video_support(refused, tmp_path, media, questions):
    blind = tmp_path / "blind"
    blind.mkdir()
    (blind / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    assert "has no video support here: its type is 'qwen2'" in refused(model=blind)
    with pytest.raises(EngineError, match="no video support"):
        train_sft(small_recipe(blind), cases_of(questions), tmp_path / "sft", data_root=media)


def test_more_generations_than_the_batch_allows(refused):
    said = refused("rl.micro_batch=64")
    assert "2 prompts × 4 rollouts = 8 rollouts cannot be divided into micro-batches of 64" in said
    assert "change rl.micro_batch (to 8, for example)" in said


def test_questions_without_the_column_of_the_answer(refused, questions):
    bare = [record_of(question) for question in questions]
    for record in bare:
        del record["answer"]
    said = refused(asked=bare)  # the text-only question is refused when it is read
    assert said.startswith("0 of 4 questions can be used but a step takes 2: ")
    assert "cannot be rewarded: '' is not a valid reference answer for the type 'numerical'" in said


def test_questions_of_an_unknown_problem_type(refused, questions):
    odd = [record_of(question) | {"problem_type": "riddle"} for question in questions]
    assert "holds no usable question" in refused(asked=odd)


def test_a_question_that_cannot_be_rewarded_is_skipped(questions):
    rl = small_recipe(Path("x"), *SETTINGS, "rl.steps=5").rl
    odd = questions[0].model_copy(update={"id": "odd", "answer": "many"})
    rows, skipped = plan_steps([odd, *questions], rl, 0, find_no_reward)
    assert "odd" not in {question.id for question in rows}
    assert [
        (question.id, "'many' is not a valid reference answer" in why) for question, why in skipped
    ] == [("odd", True)]


def test_a_data_set_with_missing_media(refused, tmp_path, questions):
    (tmp_path / "elsewhere").mkdir()
    said = refused(root=tmp_path / "elsewhere", asked=questions[:4])
    assert said.startswith("0 of 4 questions can be used but a step takes 2: ")
    assert any(name in said for name in ("long.mp4", "twin.mp4", "short.mp4", "still.png"))
    said = refused(root=tmp_path / "nowhere")
    assert "is not a folder" in said or "has its media in" in said


def test_sft_with_missing_media(model_folder, tmp_path, questions):
    with pytest.raises(TrainingError, match=r"none of 4 cases can be used for training"):
        train_sft(small_recipe(model_folder), cases_of(questions[:4]), tmp_path / "sft",
                  data_root=tmp_path)  # fmt: skip


def test_a_data_set_without_the_column_question(model_folder, questions, tmp_path):
    recipe = small_recipe(model_folder, *SETTINGS)
    processor = data.load_processor(model_folder)
    with pytest.raises(TrainingError, match="no column 'question': add one"):
        ProcessAwareGRPOTrainer(
            str(model_folder),
            questions={question.id: question for question in questions},
            frames_of=lambda question: None,
            judge=RuleJudge(),
            settings=recipe.rl,
            style="brief",
            on_rollouts=lambda cases: None,
            trace_fields={},
            args=grpo_arguments(recipe, processor, tmp_path),
            train_dataset=Dataset.from_list([{"prompt": "How many?", "id": "long"}]),
            processing_class=processor,
        )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rl.credit=all", "'decoupled', 'temporal', 'turn', 'critic' or 'critic_process'"),
        ("rl.normalize=process", "unknown key 'rl.normalize'"),
        ("rl.judge_timeout=0", "greater than 0"),
        ("sft.target=observation", "'process' or 'agnostic'"),
        ("report_to=wandbb", "no tracker 'wandbb': use none, tensorboard"),
        ("rl.reward=no_such.py:reward", "no file no_such.py"),
        ("rl.reward=nothing", "must be FILE.py:NAME or package.module:NAME"),
        ("sft.target=agnostic", "set rl.credit=outcome, or sft.target=process"),
        ("rl.rewards=[length]", "change rl.credit or rl.rewards"),
        ("rl.group_size=1", "at least 2 rollouts"),
        ("rl.temperature=0", "all rollouts of a question would be the same"),
        ("rl.temperature=-1", "rl.temperature: Input should be greater than or equal to 0"),
        ("rl.top_p=2", "rl.top_p: Input should be less than or equal to 1"),
        ("rl.beta=-1", "rl.beta: Input should be greater than or equal to 0"),
        ("rl.epsilon=0", "rl.epsilon: Input should be greater than 0"),
        ("rl.learning_rate=fast", "rl.learning_rate: Input should be a valid number"),
        ("rl.scheduler=cosin", "'cosine', 'linear', 'constant'"),
        ("rl.length_ranges.reasoning=[-5, 3]", "rl.length_ranges.reasoning.0: Input should be"),
    ],
)
def test_recipe_keys(refused, override, said):
    assert said in refused(override)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["rl.rollouts=vllm"], "vLLM is not installed: pip install"),
        (["rl.rollouts=vllm", "vllm.tensor_parallel=2"], "set vllm.tensor_parallel=1, or"),
        (["rl.rollouts=vllm-server", "server.media=file"], "set server.media=exact"),
    ],
)
def test_rollout_settings_that_cannot_work(refused, overrides, said, monkeypatch):
    monkeypatch.setattr("p2r.engines.vllm_runtime.find_spec", lambda name: None)
    assert said in refused(*overrides)


def test_resuming_a_stage_that_was_not_started(tmp_path, model_folder, capsys):
    assert run_cli(["rl", "--run", str(tmp_path / "x"), "--resume"]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "recipe.yaml").write_text(small_recipe(model_folder).to_yaml())
    for verb, stage in (("sft", "sft"), ("rl", "pa_grpo")):
        assert run_cli([verb, "--run", str(tmp_path / "x"), "--resume"]) == 2
        assert f"{stage} has nothing to resume" in capsys.readouterr().err
