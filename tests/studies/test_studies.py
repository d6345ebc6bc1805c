"""Studies: found by their file name, statistics over seeds and questions, the result file."""

from __future__ import annotations

import json
import sys

import pytest

from p2r import studies
from p2r.cli import run_cli
from p2r.errors import UserError
from p2r.records import Case, Question, Trace
from p2r.runs import open_run
from p2r.studies.base import SeedRun, Study, run_study

# accuracy by arm, seed and question; None: unknown
SCORES = {
    "control": {0: (0.0, 1.0, None), 1: (0.0, 0.0, None)},
    "treatment": {0: (1.0, 1.0, None), 1: (0.0, 1.0, 1.0)},
}
FAKE = """
from p2r.records import Case, Question, Trace
from p2r.studies.base import Study

def evaluate(seed):
    question = Question(id="q", problem="?", problem_type="OCR", answer="x")
    trace = Trace(question_id="q", text="x", answer="x")
    return {arm: [Case(question=question, trace=trace, accuracy=a)] for arm, a in ARMS.items()}

ARMS = {"old": 0.25, "new": 0.75}
STUDY = Study("fake", tuple(ARMS), ("new", "old"), evaluate)
"""


def evaluate(seed: SeedRun) -> dict[str, list[Case]]:
    """Return the cases of `SCORES`, in another order for each arm."""
    cases = {}
    for arm, scores in SCORES.items():
        cases[arm] = [
            Case(
                question=Question(id=f"q{n}", problem="?", problem_type="OCR", answer="x"),
                trace=Trace(question_id=f"q{n}", text="x", answer="x"),
                accuracy=accuracy,
            )
            for n, accuracy in enumerate(scores[seed.run.recipe.seed])
        ]
    cases["control"].reverse()
    return cases


STUDY = Study("toy", ("control", "treatment"), ("treatment", "control"), evaluate)


def test_means_are_over_seeds_then_over_questions(tmp_path):
    run = open_run(tmp_path / "run", "tiny")
    result = run_study(STUDY, run, [0, 1])
    assert result["seeds"] == [0, 1] and result["questions"] == 3
    control, treatment = (result[arm]["accuracy"] for arm in ("control", "treatment"))
    assert (control["mean"], control["n"]) == (0.25, 2)  # questions: 0, 0.5, unknown
    assert treatment["mean"] == pytest.approx((0.5 + 1 + 1) / 3, abs=1e-6)
    assert control["per_seed"] == [0.5, 0.0]
    difference = result["difference"]["accuracy"]  # question by question: 0.5, 0.5, unknown
    assert (difference["mean"], difference["n"]) == (0.5, 2)
    assert json.loads((run.folder / "study_toy.json").read_text()) == result


def test_other_seeds_have_their_own_run_folders(tmp_path):
    run = open_run(tmp_path / "run", "tiny")
    run_study(STUDY, run, [0, 1])
    assert [path.name for path in (run.folder / "studies" / "toy").iterdir()] == ["seed-1"]


def test_other_seeds_use_the_questions_and_media_of_the_main_run(tmp_path):
    main = open_run(tmp_path / "run", "tiny")
    other = SeedRun(open_run(tmp_path / "other", "tiny", ["seed=1"]), main)
    assert SeedRun(main, main).inputs("rl") == {}
    with pytest.raises(UserError, match=r"train\.jsonl is missing"):
        other.inputs("rl")
    file = main.path("data", "train.jsonl")
    file.write_text("")
    (main.folder / "data_root").write_text("data")
    inputs = other.inputs("rl")
    assert inputs["questions"] == file and str(inputs["data_root"]).endswith("data")


def test_a_study_is_one_file_in_the_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "fake.py").write_text(FAKE)
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "p2r.studies.fake", raising=False)
    assert studies.study_names() == ["credit", "fake"]
    run = open_run(tmp_path / "run", "tiny")
    assert run_cli(["study", "fake", "--run", str(run.folder), "--seeds", "0"]) == 0
    shown = capsys.readouterr().out
    assert "25.0" in shown and "75.0" in shown and "50.0" in shown
    assert (run.folder / "study_fake.json").is_file()


def test_unknown_study_and_missing_model_are_errors(tmp_path, capsys):
    run = open_run(tmp_path / "run", "tiny").folder
    for arguments, message in (
        (["study", "none"], "unknown study 'none': choose one of credit"),
        (["study"], "has no SFT model"),  # without a name: the credit study
        (["study", "--seeds", "0,x"], "--seeds '0,x'"),
    ):
        assert run_cli([*arguments, "--run", str(run)]) == 2
        assert message in capsys.readouterr().err
