"""What the notebooks share: the run, its scale and overrides, and printed cases."""

import pytest

from p2r import workshop
from p2r.errors import UserError
from p2r.records import Case, Question, Trace
from p2r.runs.recipe import load_recipe
from p2r.workshop.notebook import GPUS, SCALES, slug_of


def test_an_existing_run_keeps_its_scale_and_seed(tmp_path, capsys):
    begun = workshop.begin(tmp_path / "run", "quick", seed=3)
    assert (begun.recipe.name, begun.recipe.seed) == ("quick", 3)
    assert "seed 3" in capsys.readouterr().out
    assert workshop.begin(tmp_path / "run", "quick", seed=3).recipe == begun.recipe
    for scale, seed in (("tiny", 3), ("quick", 0)):
        with pytest.raises(UserError, match="another folder"):
            workshop.begin(tmp_path / "run", scale, seed)


def test_a_scale_names_a_recipe():
    """`tests/training/test_budget.py` shows that the scales for GPUs fit their cards."""
    assert list(SCALES) == ["quick", "tiny", *GPUS]
    for recipe, overrides in SCALES.values():
        assert load_recipe(recipe, list(overrides)).playground.train > 0


def test_overrides_have_a_run_folder_of_their_own(tmp_path):
    plain = workshop.begin(tmp_path / "run", "quick")
    varied = workshop.begin(tmp_path / "run", "quick", overrides=["rl.beta=0.1", "rl.group_size=2"])
    assert varied.folder == tmp_path / "run-beta-0.1_group_size-2"
    assert (varied.recipe.rl.beta, varied.recipe.rl.group_size) == (0.1, 2)
    assert plain.recipe.rl.beta != 0.1 and varied.recipe.name == "quick"
    assert slug_of(["rl.judge=noisy:0.3:oracle"]) == "judge-noisy-0.3-oracle"
    with pytest.raises(UserError, match="unknown key"):
        workshop.begin(tmp_path / "run", "quick", overrides=["rl.betta=0.1"])


def test_show_case_prints_only_known_parts(capsys):
    question = Question(
        id="q1", problem="Which?", options=["A. a", "B. b"], problem_type="multiple choice"
    )
    workshop.show_case(Case(question=question, trace=Trace(question_id="q1", text="B", answer="B")))
    shown = capsys.readouterr().out
    assert "A. a" in shown and "'B'" in shown and "judge" not in shown
