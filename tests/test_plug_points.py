"""Code of the user in recipes: the examples of `docs/ecosystem.md`, and what goes wrong."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
from case_records import make_case

from p2r.errors import JudgeError, TrainingError, UserError
from p2r.files.user_code import load_object
from p2r.judges import make, make_judge
from p2r.records import ProcessReward
from p2r.rewards import Rollout, apply_reward, load_reward
from p2r.runs.recipe import load_recipe

pytest_plugins = ["small_fixtures"]
PAGE = Path(__file__).parents[1] / "docs" / "ecosystem.md"


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """The Python files of the page, in the working directory."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name, source in blocks:
        (tmp_path / name).write_text(source)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def a_rollout(observation: str = "Two balls.", think: str = "So two.") -> Rollout:
    case = make_case(0, trace_observation=observation, trace_think=think, trace_answer="2")
    good = ProcessReward(accuracy=1.0, format=1.0, length=0.2)
    return Rollout(case.question, case.trace, 1.0, None, good, good)


# ---- rewards


def test_a_reward_function_sees_the_parts_and_changes_them(examples):
    reward = load_reward("my_reward.py:reward")
    perception, reasoning = apply_reward(reward, a_rollout())
    assert perception.total == reasoning.total == 2.2
    perception, reasoning = apply_reward(reward, a_rollout(think="Two balls. So two."))
    assert (perception.total, reasoning.total) == (2.2, pytest.approx(1.7))


def test_a_reward_is_a_number_or_unknown():
    perception, reasoning = apply_reward(lambda rollout: (0.25, None), a_rollout())
    assert perception.total == 0.25 and reasoning.total is None
    for wrong in (lambda r: 1.0, lambda r: (1.0, float("nan")), lambda r: ("good", 0.0)):
        with pytest.raises(TrainingError, match="must return two rewards"):
            apply_reward(wrong, a_rollout())


def test_a_recipe_keeps_the_place_of_its_reward(examples):
    (examples / "mine.yaml").write_text("base: tiny\nrl: {reward: my_reward.py:reward}\n")
    found = load_recipe(examples / "mine.yaml").rl.reward
    assert found == f"{examples / 'my_reward.py'}:reward"
    assert load_recipe("tiny", ["rl.reward=lost.py:f"]).rl.reward == "lost.py:f"  # still opens


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("reward", "must be FILE.py:NAME"),
        ("lost.py:reward", "no file lost.py"),
        ("my_reward.py:other", "has no other"),
        ("no_such_package.rewards:f", "PYTHONPATH"),
        ("broken.py:f", "ZeroDivisionError"),
    ],
)
def test_code_that_cannot_be_loaded_is_named(examples, spec, said):
    (examples / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match=said):
        load_object(spec)


@pytest.mark.slow
def test_the_trainer_learns_from_the_reward_function(examples, model_folder, media, questions):
    from small_rl import FULL, Scripted, generation, make_trainer

    trainer, cases = make_trainer(
        Scripted, model_folder, media, questions[:1], examples, "rl.reward=my_reward.py:reward"
    )
    trainer.responses = [FULL, FULL.replace("So two.", "I see two. So two.")]
    trainer.model.train()
    trainer._generate_and_score_completions(generation(questions[:1], 2))
    plain, fined = (case.reasoning.total for case in cases)
    assert fined == pytest.approx(plain - 0.5)
    assert cases[0].reasoning_advantage > 0 > cases[1].reasoning_advantage
    assert cases[0].perception_advantage == 0


# ---- judges


def judged(judge, observation):
    rollout = a_rollout()
    return judge.judge([rollout.question], [observation])[0].sufficient


def test_a_judge_comes_from_a_file_or_an_installed_package(examples, monkeypatch):
    judge = make_judge("my_judge.py:NumberJudge")
    assert judged(judge, "There are 2.") is True and judged(judge, "Some.") is False
    point = EntryPoint("number", "my_judge:NumberJudge", make.ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(examples))
    monkeypatch.setattr(make, "entry_points", lambda group: [point] if group == point.group else [])
    make._registered.cache_clear()
    try:
        for spec in ("number", {"kind": "number"}):
            assert judged(make_judge(spec), "3 cubes") is True
        with pytest.raises(JudgeError, match="number or package"):
            make_judge("no-number")
    finally:
        make._registered.cache_clear()
    with pytest.raises(JudgeError, match=r"no file lost\.py"):
        make_judge("lost.py:Judge")


# ---- trackers


def test_a_tracker_is_an_integration_of_transformers_or_a_class(examples, monkeypatch, capsys):
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils

    from p2r.runs.plugins import TRACKERS
    from p2r.training.stage import trackers

    class Wandb(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            print(f"wandb got {logs}")

    known = integration_utils.INTEGRATION_TO_CALLBACK
    assert set(TRACKERS) == set(known)
    monkeypatch.setitem(known, "wandb", Wandb)
    found = trackers("wandb,my_tracker.py:Tracker", examples, 0, main_process=True)
    for callback in found:
        callback.on_log(None, SimpleNamespace(global_step=3), None, logs={"reward": 1.5})
    assert capsys.readouterr().out == "wandb got {'reward': 1.5}\nstep 3: reward 1.5\n"
    assert trackers("wandb", examples, 0, main_process=False) == []
    with pytest.raises(TrainingError, match="pip install swanlab"):
        trackers("swanlab", examples, 0, main_process=True)
    assert load_recipe("tiny", ["report_to=wandb,tensorboard"]).report_to == "wandb,tensorboard"
