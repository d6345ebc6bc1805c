"""The plan of an RL run: its text, its errors, and that it needs no weights."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import forks
import pytest
from small import small_recipe

from p2r import data
from p2r.cli import run_cli
from p2r.errors import EngineError, UserError
from p2r.records import MORE_MEDIA, Question
from p2r.runs.models import shipped_models
from p2r.runs.recipe import FOLDER, load_recipe
from p2r.template import build_prompt
from p2r.training.dry_run import check_media
from p2r.training.memory import fits, peak_memory
from p2r.training.plan import CHAT_TOKENS, TYPICAL, count_text, describe_plan, plan_rl
from p2r.training.rl_checks import divide_rollouts, judge_of

pytest_plugins = ["small_fixtures"]

RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SMALL = ["rl.prompts_per_step=2", "rl.micro_batch=16"]
PRESETS = [("3b-1x24gb", 1, 24), ("7b-1x80gb", 1, 80), ("7b-8x80gb", 8, 80)]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No network, no cache of the hub, no launcher."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("WORLD_SIZE", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"):
        monkeypatch.delenv(name, raising=False)


def error_of(capsys, *arguments: str) -> str:
    """Return the error line of a command that exits with code 2."""
    assert run_cli(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture
def question_file(tmp_path, questions) -> Path:
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(question.model_dump_json() + "\n" for question in questions))
    return file


@pytest.fixture
def blind_folder(tmp_path) -> Path:
    """A folder with a text-only model."""
    folder = tmp_path / "blind"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "hidden_size": 8}))
    return folder


# ---- the text of the plan


def test_doctor_describes_7b_on_eight_gpus(capsys):
    assert run_cli(["doctor", "--recipe", "7b", "--gpus", "8"]) == 0
    said = capsys.readouterr().out
    assert "7 prompts × 8 rollouts = 56 rollouts, 1 optimiser update (1 micro-batches of 7" in said
    assert "at most 1,024 of video (16 frames" in said and "at most 768" in said
    assert "8,292,166,656 of 8,292,166,656" in said
    parts = ("weights", "gradients", "optimiser", "reference", "copies", "activations", "rollouts")
    assert all(f"\n {part} " in said for part in parts)
    assert "24 GB: no, 80 GB: yes" in said


@pytest.mark.parametrize(
    ("updates", "steps", "planned", "started"),
    [
        (1, "each step", "1 optimiser update (28", "1 update(s) (28"),
        (2, "every 2 steps", "2 optimiser updates (each 28", "2 update(s) (each 28"),
    ],
)
def test_a_batch_of_rollouts_may_serve_several_steps(updates, steps, planned, started):
    from p2r.training import grpo

    recipe = load_recipe("7b", [f"rl.updates={updates}", "rl.micro_batch=2"])
    begin, sizes = f"{steps}: 7 prompts × 8 rollouts = 56 rollouts, ", " micro-batches of 2 on "
    assert describe_plan(plan_rl(recipe))[1] == f"{begin}{planned}{sizes}each GPU)"
    arguments = SimpleNamespace(gradient_accumulation_steps=28, world_size=1)
    said = grpo.describe(arguments, recipe.rl)
    assert said.startswith(f"{begin}{started}{sizes}1 worker(s)); {recipe.rl.steps} steps, credit")


@pytest.mark.parametrize(("name", "gpus", "card"), PRESETS)
def test_presets_fit_the_cards_they_are_named_for(name, gpus, card):
    recipe = load_recipe(name)
    assert fits(plan_rl(recipe, gpus).memory, card, recipe.vllm.rollout_memory)


def test_the_plan_shows_rollouts_by_vllm(capsys):
    doctor = ["doctor", "--recipe", "7b-1x80gb", "--set", "rl.rollouts=vllm"]
    doctor += ["--set", "vllm.rollout_memory=0.3"]
    assert run_cli(doctor) == 0
    said = capsys.readouterr().out
    assert "\n vllm " in said and "vLLM takes 30% of the card all the time" in said
    assert "24 GB: no, 80 GB: yes" in said
    assert run_cli([*doctor, "--set", "vllm.rollout_memory=0.1"]) == 0
    assert "24 GB: no, 80 GB: no" in capsys.readouterr().out


def test_all_weights_of_7b_do_not_fit_one_card():
    assert not fits(plan_rl(load_recipe("7b")).memory, 80)


def test_several_gpus_share_the_states_by_default():
    recipe = load_recipe("7b-8x80gb")
    assert plan_rl(recipe, 8) == plan_rl(recipe, 8, "zero3")
    assert peak_memory(plan_rl(recipe, 8, "none").memory) > peak_memory(plan_rl(recipe, 8).memory)
    assert fits(plan_rl(recipe, 8, "fsdp2").memory, 80, recipe.vllm.rollout_memory)


def test_text_is_counted_by_the_models_tokenizer(model_folder, questions):
    tokenizer = data.load_processor(model_folder).tokenizer
    longest = max(len(tokenizer(build_prompt(q, "brief"))["input_ids"]) for q in questions)
    assert count_text(str(model_folder), questions, "brief") == CHAT_TOKENS + longest


def test_text_without_a_tokenizer_is_estimated_within_a_fifth():
    """Compared with Qwen's vocabulary."""
    files = pytest.importorskip("dashscope").__path__
    tokens = _count_with_qwen(Path(files[0]) / "resources" / "qwen.tiktoken")
    estimate = count_text("Qwen/Qwen2.5-VL-7B-Instruct", [TYPICAL], "full") - CHAT_TOKENS
    assert estimate == pytest.approx(tokens, rel=0.2)


def _count_with_qwen(file: Path) -> int:
    tiktoken = pytest.importorskip("tiktoken")
    from tiktoken.load import load_tiktoken_bpe

    cut = (
        r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    )
    encoding = tiktoken.Encoding(
        "qwen",
        pat_str=cut + r"|\s*[\r\n]+|\s+(?!\S)|\s+",
        mergeable_ranks=load_tiktoken_bpe(str(file)),
        special_tokens={},
    )
    return len(encoding.encode(build_prompt(TYPICAL, "full")))


# ---- dry run


def has_models(name: str) -> bool:
    """Return whether the models of a recipe are embedded or come from the hub."""
    start = load_recipe(name).models.base
    return not start.startswith("playground/") or start in shipped_models()


@pytest.mark.parametrize("name", filter(has_models, RECIPES))
def test_a_dry_run_of_every_recipe_needs_nothing(name, capsys):
    assert run_cli(["rl", "--recipe", name, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"recipe {name}:" in said and "fits a card of" in said
    assert "media are not checked" in said


@pytest.mark.parametrize("name", sorted({*RECIPES} - {*filter(has_models, RECIPES)}))
def test_a_recipe_without_its_models_says_how_to_make_them(name, capsys):
    for command in (["rl", "--recipe", name, "--dry-run"], ["doctor", "--recipe", name]):
        assert run_cli(command) == 2
        (said,) = capsys.readouterr().err.strip().splitlines()
        assert "no embedded model" in said and "docs/playground.md says how to make it" in said


def dry_run(folder: Path) -> None:
    """Make a dry run in a folder. The exit code is not 0 if it fails or imports TRL."""
    forks.forget("p2r", "trl")
    from p2r.cli import run_cli

    os.chdir(folder)
    sys.exit(run_cli(["rl", "--recipe", "7b", "--dry-run"]) or "trl" in sys.modules)


@pytest.mark.slow
def test_a_dry_run_loads_no_weights_and_writes_nothing(tmp_path):
    child = forks.start(dry_run, tmp_path)
    child.join(600)
    child.kill()
    assert child.exitcode == 0 and not any(tmp_path.iterdir())


def test_a_dry_run_checks_the_media(question_file, media, model_folder, capsys):
    """One of the five questions is text-only."""
    here = ["rl", "--dry-run", "--questions", str(question_file)]
    here += ["--set", SMALL[0], "--set", SMALL[1]]
    assert run_cli([*here, "--data-root", str(media), "--model", str(model_folder)]) == 0
    assert "questions: 5 of 5 have an answer and their media" in capsys.readouterr().out
    message = error_of(capsys, *here)
    assert (
        "1 of 5 questions have an answer and their media" in message
        and "no file long.mp4" in message
    )
    assert "--data-root" in message


def test_a_dry_run_in_a_run_uses_the_data_of_the_run(tmp_path, question_file, media, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(load_recipe("tiny1", SMALL).to_yaml())
    (run / "sources.json").write_text(json.dumps({"generate": str(question_file)}))
    (run / "data_root").write_text(f"{media}\n")
    before = sorted(run.rglob("*"))
    assert run_cli(["rl", "--run", str(run), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "2 prompts × 8 rollouts" in said and "5 of 5 have an answer and their media" in said
    assert sorted(run.rglob("*")) == before
    assert "does not exist" in error_of(capsys, "rl", "--run", f"{run}x", "--dry-run")


def test_some_media_missing_is_a_note(questions, media):
    lost = questions[0].model_copy(update={"path": "gone.mp4"})
    outside = questions[0].model_copy(update={"path": "../x.mp4"})
    note = check_media([*questions, lost, outside], media, needed=5, rewarded=True)
    assert (
        "5 of 7 have an answer and their media" in note
        and "skipped: 2, the first: no file gone.mp4" in note
    )


def test_only_rl_needs_an_answer_and_one_medium(questions, media):
    there = questions[0].path
    several = [
        questions[0].model_copy(update={"meta": {MORE_MEDIA: [{"path": path}]}})
        for path in (there, "gone.mp4")
    ]
    open_ended = questions[0].model_copy(update={"answer": ""})
    asked = [*several, open_ended]
    assert "2 of 3 have their media" in check_media(asked, media, needed=2)
    with pytest.raises(UserError, match="0 of 3 questions have an answer and their media"):
        check_media(asked, media, needed=1, rewarded=True)


# ---- what it refuses: one line, before any weight is loaded


def test_more_generations_than_the_batch_allows(capsys):
    message = error_of(capsys, "rl", "--recipe", "7b", "--dry-run", "--set", "rl.micro_batch=64")
    assert "7 prompts × 8 rollouts = 56 rollouts cannot be divided" in message
    assert "change rl.micro_batch (to 56, for example)" in message
    message = error_of(capsys, "doctor", "--recipe", "7b", "--gpus", "16")
    assert "on 16 worker(s)" in message


def test_rollouts_are_divided_among_the_workers():
    rl = load_recipe("7b").rl
    assert [divide_rollouts(rl, processes) for processes in (1, 8)] == [8, 1]
    assert divide_rollouts(load_recipe("7b", ["rl.micro_batch=8"]).rl, 7) == 1
    with pytest.raises(UserError, match=r"change rl.micro_batch \(to 4, for example\)"):
        divide_rollouts(rl, 7)
    with pytest.raises(UserError, match=r"change rl.micro_batch, rl.prompts_per_step"):
        divide_rollouts(rl, 3)


def test_a_group_of_one_has_nothing_to_compare():
    with pytest.raises(UserError, match="at least 2 rollouts"):
        plan_rl(load_recipe("7b", ["rl.group_size=1"]))


def test_a_model_without_video_support(blind_folder, capsys):
    message = error_of(capsys, "rl", "--dry-run", "--model", str(blind_folder))
    assert "has no video support" in message and "'qwen2'" in message
    for load in (data.load_model, data.load_processor):
        with pytest.raises(EngineError, match="no video support"):
            load(blind_folder)


@pytest.mark.slow  # imports the trainer
def test_training_refuses_a_model_without_video_support(blind_folder, media, questions, tmp_path):
    from p2r.training.grpo import train_grpo

    recipe = small_recipe(blind_folder, "rl.prompts_per_step=1", "rl.credit=outcome")
    with pytest.raises(EngineError, match="no video support"):
        train_grpo(recipe, questions, blind_folder, tmp_path / "rl", judge=None, data_root=media)


def test_a_model_of_unknown_size(capsys):
    message = error_of(capsys, "rl", "--dry-run", "--model", "nobody/nothing")
    assert "not on this machine" in message and "Qwen/Qwen2.5-VL-7B-Instruct" in message


def test_frames_that_do_not_fit_the_model(capsys):
    message = error_of(capsys, "rl", "--recipe", "7b", "--dry-run", "--set", "video.factor=14")
    assert "set video.factor=28" in message


def test_more_tokens_than_the_model_reads():
    with pytest.raises(UserError, match=r"lower video\.train_frames"):
        plan_rl(load_recipe("7b", ["video.train_frames=4096"]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rl.judge=nobody", "no judge 'nobody'"),
        ("rl.rewards=[length]", "needs the reward of perception or reasoning"),
    ],
)
def test_judge_and_rewards_are_checked(override, said, capsys):
    assert said in error_of(capsys, "rl", "--recipe", "7b", "--dry-run", "--set", override)


def test_without_a_dry_run_there_must_be_a_run(capsys):
    assert "pass --run FOLDER" in error_of(capsys, "rl", "--recipe", "7b")


def test_unknown_sharding(capsys):
    message = error_of(capsys, "doctor", "--recipe", "7b", "--sharding", "zero4")
    assert "none, zero2, zero3, fsdp2" in message


def test_the_longest_question_counts(questions):
    wordy = Question(id="w", problem="why " * 400, path="", problem_type="free-form", answer="x")
    recipe = load_recipe("7b")
    assert plan_rl(recipe, questions=[*questions, wordy]).text_tokens > 300
    assert "about" in describe_plan(plan_rl(recipe, questions=questions))[2]


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        (["rl.judge=claude"], "claude"),
        (["rl.judge=claude", "rl.credit=outcome"], "none"),
        (["rl.judge=noisy:0.1:claude", "rl.rewards=[reasoning]"], "none"),
        (["rl.judge=claude", "rl.credit=outcome", "rl.judge_always=true"], "claude"),
        (["rl.judge=oracle", "rl.credit=outcome"], "oracle"),
        (["rl.judge=none", "rl.credit=outcome"], "none"),
    ],
)
def test_a_paid_judge_is_asked_only_if_a_reward_needs_it_or_the_recipe_says_so(settings, asked):
    assert judge_of(load_recipe("tiny1", settings)) == asked


def test_the_perception_reward_needs_a_judge():
    with pytest.raises(UserError, match=r"rl\.judge is none"):
        judge_of(load_recipe("tiny1", ["rl.judge=none"]))
