"""Studies: what is trained and answered, that nothing is made twice, and the result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from p2r import plots, studies
from p2r.cli import run_cli
from p2r.cli import study as study_command
from p2r.errors import UserError
from p2r.files.user_code import stamp_of
from p2r.judges.run_judge import books_of, share_books
from p2r.records import Case, Question, Trace, Verdict
from p2r.runs import model_fingerprint, open_run, write_json
from p2r.runs.recipe import load_recipe
from p2r.studies.base import BASE, GRPO, PA_GRPO, SFT, Arm, Measure, Paper, Study, View, at_step
from p2r.studies.framework import run as study_run
from p2r.studies.framework import tables, work
from p2r.studies.framework.budget import budgets, check_equal
from p2r.studies.framework.examples import Kept
from p2r.studies.framework.intervals import measure_grid
from p2r.studies.framework.page import write_page
from p2r.studies.framework.poses import FromWindows
from p2r.studies.framework.result import read_result
from p2r.studies.framework.run import estimate_left, run_study
from p2r.studies.framework.work import Cell, Plan, Training
from p2r.training.rl_checks import check_rl

SEEDS = (0, 1, 2)
GAIN = {"grpo": 0.0, "pa_grpo": 0.5}  # accuracy that a stage adds to some questions
STUDY = Study(
    "toy",
    arms=(BASE, SFT, GRPO, PA_GRPO),
    differences=(("pa_grpo", "grpo"), ("pa_grpo", "sft")),
    views=("test", View("blurred", "test", ("video.eval_frames=4",)), "ambiguous"),
    view_differences=(("blurred", "test"),),
    show=("accuracy", "sufficiency", "long name"),
    metrics={"long name": Measure(lambda case: float(len(case.question.id)), "letters")},
    by={"half": lambda question: "first" if question.id < "q2" else "second"},
    curves=("lost", "accuracy"),
    paper=Paper("Table 2", {"pa_grpo": 58.7, "grpo": 56.4, "sft": 55.6}),
    doc="""Is a toy a study?

    It has no models.

    Says: nothing yet.

    Does not say: much.
    """,
)


@pytest.fixture
def run(tmp_path):
    """A run with an SFT model, questions and media folder, without any weight."""
    opened = open_run(tmp_path / "run", "tiny1")
    opened.path("sft", "model", "model.safetensors").write_bytes(b"weights")
    opened.path("data", "test.jsonl").write_text("")
    return opened


@pytest.fixture
def made(monkeypatch):
    """Replace training and answering by fake files; return the names of what was made."""
    names: list[str] = []

    def train(self: Training) -> None:
        names.append(self.name)
        (self.run.folder / self.stage / "model").mkdir(parents=True)
        rows = [{"step": step, "joint/collapse": 0.1 * step} for step in (1, 2)]
        rows = [{**row, "reasoning/collapse": 0.2} for row in rows]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        self.run.path(self.stage, "metrics.jsonl").write_text(lines)
        rollouts = [make_case("q0", step / 2, step) for step in (1, 2)]
        lines = "".join(case.model_dump_json() + "\n" for case in rollouts)
        self.run.path(self.stage, "rollouts.jsonl").write_text(lines)

    def answer(self: Cell) -> None:
        names.append(f"{self.model.name}/{self.view.name}")
        stage = self.model.training.stage if self.model.training else ""
        gain = GAIN.get(stage, -0.5) * (0.5 if self.view.name == "blurred" else 1)
        scores = [0.5 + gain, 0.5 + gain * (self.seed == 1), 0.5, None]
        cases = [make_case(f"q{n}", score) for n, score in enumerate(scores)]
        self.run.path("cases", f"eval-{self.stage}.jsonl").write_text(
            "".join(case.model_dump_json() + "\n" for case in reversed(cases))
        )
        write_json(self.run.path("eval", f"{self.stage}.json"), {})

    monkeypatch.setattr(Training, "work", train)
    monkeypatch.setattr(Cell, "work", answer)
    return names


def make_case(name: str, accuracy: float | None, step: int | None = None) -> Case:
    question = Question(id=name, problem="?", problem_type="OCR", answer="x", path=f"{name}.mp4")
    trace = Trace(question_id=name, text="x", answer="x", step=step)
    return Case(question=question, trace=trace, accuracy=accuracy, verdict=Verdict(sufficient=True))


@dataclass(frozen=True)
class Mine:
    """A record of the user."""


# ---- the plan


def test_models_and_answers_are_named_by_what_they_depend_on(run):
    plan = Plan(STUDY, run, SEEDS)
    grpo, pa_grpo = (plan.model(arm, 1).name for arm in ("grpo", "pa_grpo"))
    assert grpo.startswith("grpo-seed1-") and pa_grpo.startswith("pa_grpo-seed1-")
    same = Study("other", (Arm("mine", ("rl.credit=outcome", "eval.questions=9")), GRPO))
    other = Plan(same, run, SEEDS)
    assert other.model("mine", 1).name == grpo  # the evaluation does not change the training
    assert other.cell("mine", 1, "test").stage != other.cell("grpo", 1, "test").stage
    longer = Study("longer", (Arm("long", ("rl.credit=outcome", "rl.steps=61")),))
    assert Plan(longer, run, SEEDS).model("long", 1).name != grpo
    assert len({plan.cell("sft", seed, "test").stage for seed in SEEDS}) == 1  # no seed trains it
    assert len(plan.work()) == 2 * 3 + (2 + 2 * 3) * 2  # trainings, then cells of two views


def test_answers_are_named_by_the_code_that_changes_their_frames(run, tmp_path):
    code = tmp_path / "mine.py"
    names = set()
    for source in ("def grey(frames): return 1", "def grey(frames): return 2"):
        code.write_text(source)
        view = View("grey", "test", (f"video.eval_change=blur:2+{code}:grey",))
        cell = Plan(Study("mine", (SFT,), views=(view,)), run, (0,)).cell("sft", 0, "grey")
        names.add(cell.stage)
    assert len(names) == 2


def test_models_are_named_by_their_judge_and_by_the_questions_that_are_held_out(run, tmp_path):
    code, names = tmp_path / "judge.py", set()
    for name in ("mine", "other"):
        code.write_text(
            f"from p2r.judges import BaseJudge\nclass Mine(BaseJudge):\n    name = '{name}'\n"
        )
        arm = Arm("mine", (f"rl.judge={code}:Mine",))
        names.add(Plan(Study("mine", (arm,)), run, (1,)).model("mine", 1).name)
    validated = Arm("validated", ("rl.validate_every=10", "rl.validate_questions=64"))
    plan = Plan(Study("mine", (PA_GRPO, validated)), run, (1,))
    names |= {plan.model(arm, 1).name for arm in ("pa_grpo", "validated")}
    assert len(names) == 4


def test_a_model_with_another_reward_function_is_not_used_again(run, tmp_path):
    run.path("pa_grpo", "model", "model.safetensors").write_bytes(b"w")
    start = model_fingerprint(run.folder / "sft" / "model")
    write_json(run.path("pa_grpo", "made.json"), {"start": start})
    code = tmp_path / "mine.py"
    code.write_text("def reward(rollout): return 0.0, 1.0")
    (run.folder / "recipe.yaml").write_text(
        open_run(run.folder, None, [f"rl.reward={code}:reward"]).recipe.to_yaml()
    )
    training = Plan(STUDY, open_run(run.folder), SEEDS).model("pa_grpo", 0).training
    assert training.found is None
    made = {"start": start, "reward": stamp_of(f"{code}:reward")}
    write_json(run.path("pa_grpo", "made.json"), made)
    training = Plan(STUDY, open_run(run.folder), SEEDS).model("pa_grpo", 0).training
    assert training.found == run.folder / "pa_grpo"


def test_a_checkpoint_has_the_compute_of_its_steps(run):
    study = Study("steps", (at_step(PA_GRPO, 10, every=10), at_step(PA_GRPO, 50, every=10)))
    found = budgets(Plan(study, run, (1,)))
    assert found["pa_grpo_10"]["rl_steps"] == 10 and found["pa_grpo_50"]["rl_steps"] == 50
    assert found["pa_grpo_50"]["rollouts"] == 5 * found["pa_grpo_10"]["rollouts"]


def test_a_study_can_have_its_own_seeds(run, made, capsys):
    assert studies.load_study("confirm").seeds[0] == 5
    assert run_cli(["study", "confirm", "--run", str(run.folder), "--list"]) == 0
    said = capsys.readouterr().out
    assert "seed 5" in said and "seed 0" not in said


def test_other_questions_of_the_user_never_mix_with_old_answers(run, tmp_path):
    def names() -> list[str]:
        plan = Plan(STUDY, run, (1,))
        cell = plan.cell("pa_grpo", 1, "test")
        return [cell.model.name, f"{cell.model.name}/{cell.stage}"]

    before = names()
    write_json(run.path("sources.json"), {"eval": str(tmp_path / "mine.jsonl")})
    trained, answered = names()
    assert trained == before[0] and answered != before[1]
    write_json(run.path("sources.json"), {"generate": str(tmp_path / "mine.jsonl")})
    assert names()[0] != before[0]


def test_the_arms_of_the_demo_do_not_name_the_models_of_a_study(run):
    before = Plan(STUDY, run, SEEDS).model("pa_grpo", 0)
    changed = open_run(run.folder, None, ["demo.arms.pa_grpo_grounded={judge: grounded}"])
    assert Plan(STUDY, changed, SEEDS).model("pa_grpo", 0).name == before.name
    # An arm with the name of a credit scheme, but with another judge, is another training.
    changed.path("pa_grpo", "model", "model.safetensors").write_bytes(b"w")
    start = model_fingerprint(run.folder / "sft" / "model")
    write_json(changed.path("pa_grpo", "made.json"), {"start": start})
    assert Plan(STUDY, changed, SEEDS).model("pa_grpo", 0).path == str(
        run.folder / "pa_grpo" / "model"
    )
    arms = {"pa_grpo": {"credit": "process", "judge": "grounded"}}
    demo = changed.recipe.demo.model_copy(update={"arms": arms})
    other = changed.recipe.model_copy(update={"demo": demo})
    (run.folder / "recipe.yaml").write_text(other.to_yaml())
    assert Plan(STUDY, open_run(run.folder), SEEDS).model("pa_grpo", 0).path == before.path


def test_an_arm_can_start_from_another_arm(run):
    first = Arm("first", start="base", train=("sft",))
    second = Arm("second", start="first", train=("sft", "rl"))
    model = Plan(Study("chain", (second, first)), run, (3,)).model("second", 3)
    stages = [training.stage for training in model.trainings]
    assert stages == ["sft", "sft", "pa_grpo"]
    assert model.trainings[1].run.recipe.models.base == model.trainings[0].start.path or (
        model.trainings[1].run.recipe.models.base.endswith(f"{model.trainings[0].name}/sft/model")
    )


def test_models_of_the_run_and_of_older_studies_are_used_again(run, tmp_path):
    start = model_fingerprint(run.folder / "sft" / "model")
    older = open_run(run.folder / "studies" / "credit" / "seed-1", "tiny1", ["seed=1"])
    for folder, stage in ((run, "pa_grpo"), (older, "grpo")):
        folder.path(stage, "model", "model.safetensors").write_bytes(b"w")
        write_json(folder.path(stage, "made.json"), {"start": start})
    plan = Plan(STUDY, run, SEEDS)
    assert plan.model("pa_grpo", 0).path == str(run.folder / "pa_grpo" / "model")
    assert plan.model("grpo", 1).path == str(older.folder / "grpo" / "model")
    assert "studies/models" in plan.model("grpo", 0).path
    shorter = Study("shorter", (Arm("pa_grpo", ("rl.steps=9",)),))
    assert "studies/models" in Plan(shorter, run, SEEDS).model("pa_grpo", 0).path


def test_splits_and_arms_that_the_run_cannot_have_are_skipped_with_the_reason(run):
    later = Arm("later", world=2)
    study = Study("splits", (SFT, later), views=("test", "ambiguous", "train", "nowhere"))
    skipped = Plan(study, run, SEEDS).skipped
    assert "playground.generation=1) has no ambiguous" in skipped["view ambiguous"]
    assert "no such split" in skipped["view nowhere"] and "generation=2" in skipped["arm later"]
    assert set(skipped) == {"view ambiguous", "view nowhere", "arm later"}
    steps = tuple(at_step(PA_GRPO, step, 20) for step in (30, 40, 60, 80))
    skipped = Plan(Study("steps", steps), run, SEEDS).skipped
    assert skipped == {
        "arm pa_grpo_30": "it needs step 30 of RL, and rl.save_steps is 20",
        "arm pa_grpo_80": "it needs step 80 of RL, and rl.steps is 60",
    }
    with pytest.raises(UserError, match="nothing to ask"):
        Plan(Study("none", (SFT,), views=("long",)), run, SEEDS)


def test_a_study_must_name_its_arms_and_give_them_equal_compute(run):
    with pytest.raises(UserError, match="no arm 'lost'"):
        Study("x", (SFT,), differences=(("sft", "lost"),))
    with pytest.raises(UserError, match="'sft' twice"):
        Study("x", (SFT, SFT))
    with pytest.raises(UserError, match="no view 'windows'"):
        Study("x", (SFT,), views=(View("windowed", "test", pose=FromWindows()),))
    arms = (PA_GRPO, Arm("short", ("rl.steps=9",)))
    with pytest.raises(UserError, match=r"different values of rl\.steps"):
        check_equal(Plan(Study("x", arms), run, SEEDS))
    plan = Plan(Study("x", arms, varies=("rl.steps",)), run, SEEDS)
    check_equal(plan)
    found = budgets(plan)
    assert found["short"]["rollouts"] == 9 * 64 and found["pa_grpo"]["rollouts"] == 60 * 64
    learns = Arm("part", ("sft.max_steps=-1",), "base", ("sft",), traces=Kept(0.5))
    plan = Plan(Study("x", (learns,)), run, SEEDS)
    with pytest.raises(UserError, match="an epoch is not the same number of steps"):
        check_equal(plan)
    assert budgets(plan)["part"]["sft_examples"] is None  # only epochs limit it


def test_the_credit_study_compares_pa_grpo_with_every_scheme(run):
    study = studies.load_study("credit")
    plan = Plan(study, run, SEEDS)
    check_equal(plan)
    alike = ("no_length", "grpo_no_length")  # these two differ only in the scheme
    assert {(a, b) for a, b in study.differences if a != "pa_grpo"} == {alike}
    others = {*study.arm_names} - {"pa_grpo", alike[1]}
    assert {b for a, b in study.differences if a == "pa_grpo"} == others
    stages = {arm: found["stages"] for arm, found in budgets(plan).items()}
    assert stages["turn"] == ["mt_grpo"] and stages["papo"] == ["papo"]
    assert stages["no_perception"] == stages["no_length"] == ["pa_grpo"]
    assert len({plan.model(arm, 0).name for arm in study.arm_names}) == len(study.arms)
    passes = {arm: (found["forward"], found["backward"]) for arm, found in budgets(plan).items()}
    assert passes["grpo"] == passes["pa_grpo"] == (2, 1)
    assert passes["critic"] == (3, 1) and passes["papo"] == (3, 2)
    rollouts = {arm: found["rollouts"] for arm, found in budgets(plan).items()}
    assert rollouts["t_grpo"] == 1.5 * rollouts["papo"] == 1.5 * rollouts["critic"]


def test_the_cost_study_compares_float32_with_bfloat16_whatever_the_recipe_says(run):
    recipe = load_recipe("tiny1", ["models.dtype=bfloat16"])
    (run.folder / "recipe.yaml").write_text(recipe.to_yaml())
    plan = Plan(studies.load_study("cost"), open_run(run.folder), SEEDS)
    views = {view.name: plan.recipe(view.overrides) for view in plan.study.all_views}
    assert views["float32"].models.dtype == "float32"
    assert views["bfloat16"].models.dtype == "bfloat16"


# ---- working and resuming


def test_nothing_is_made_twice_and_a_failure_stops_only_what_needs_it(run, made, monkeypatch):
    lines: list[str] = []
    train = Training.work

    def fail(self: Training) -> None:
        if self.seed == 1 and self.stage == "grpo":
            raise UserError("the disk is full")
        train(self)

    monkeypatch.setattr(Training, "work", fail)
    with pytest.raises(UserError, match="the disk is full") as error:
        run_study(STUDY, run, SEEDS, report=lines.append)
    assert "3 parts of study toy failed" in str(error.value)  # the training and its two cells
    assert len(made) == len(set(made)) == 5 + 14
    assert any("seed 2, pa_grpo: answer blurred" in line for line in lines)
    assert lines[0].startswith("view ambiguous is skipped")
    monkeypatch.setattr(Training, "work", train)
    assert estimate_left(run, Plan(STUDY, run, SEEDS).work()) is not None
    run_study(STUDY, run, SEEDS)
    assert len(made) == len(set(made)) == 6 + 16
    run_study(STUDY, run, SEEDS)
    assert len(made) == 22


def test_an_unexpected_error_or_a_damaged_line_stops_no_other_part(run, made, monkeypatch, caplog):
    train = Training.work

    def fail(self: Training) -> None:
        if self.seed == 0:
            raise RuntimeError("CUDA out of memory")
        train(self)

    run.path("studies", "times.jsonl").write_text('{"name": "x", "ki{"name": "y"}\n')
    monkeypatch.setattr(Training, "work", fail)
    with pytest.raises(UserError, match="RuntimeError: CUDA out of memory"):
        run_study(STUDY, run, SEEDS)
    assert len(made) == 4 + 2 * 2 + 4 * 2  # the trainings, and the cells without seed 0
    assert "Traceback" in caplog.text


def test_every_worker_has_its_own_gpu(run, made, monkeypatch):
    started = []

    class Process:
        exitcode = 0

        def __init__(self, target, args):
            started.append(args[-1])

        def start(self):
            pass

        def join(self):
            pass

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    context = SimpleNamespace(Process=Process)
    monkeypatch.setattr("multiprocessing.get_context", lambda kind: context)
    run_study(STUDY, run, SEEDS, jobs=3, spec="toy")
    assert started == ["4", "5", "4"]


# ---- the result


def test_result_has_every_view_difference_part_curve_and_budget(run, made, tmp_path):
    result = run_study(STUDY, run, SEEDS)
    assert read_result(run.folder / "study_toy.json") == json.loads(json.dumps(result))
    test = result["views"]["test"]
    assert list(test["arms"]) == ["base", "sft", "grpo", "pa_grpo"]
    accuracy = test["arms"]["pa_grpo"]["accuracy"]  # questions: 1, 2/3, 0.5, unknown
    assert accuracy["mean"] == pytest.approx((1 + 2 / 3 + 0.5) / 3) and accuracy["n"] == 3
    assert accuracy["per_seed"] == [pytest.approx(x, abs=1e-5) for x in (2 / 3, 2.5 / 3, 2 / 3)]
    assert test["arms"]["sft"]["accuracy"]["per_seed"] == [pytest.approx(1 / 3, abs=1e-5)]
    gain = test["differences"]["pa_grpo - grpo"]["accuracy"]
    assert gain["mean"] == pytest.approx((0.5 + 0.5 / 3 + 0) / 3)
    assert gain["over_seeds"]["low"] < gain["mean"] < gain["over_seeds"]["high"]
    assert result["difference"] == test["differences"]["pa_grpo - grpo"]  # the old key
    assert result["pa_grpo"] == test["arms"]["pa_grpo"] and result["questions"] == 4
    blur = result["view_differences"]["blurred - test"]["pa_grpo"]["accuracy"]["mean"]
    assert blur == pytest.approx(-(0.25 + 0.25 / 3) / 3)
    assert test["by"]["half"]["first"]["questions"] == 2
    assert test["by"]["half"]["first"]["arms"]["pa_grpo"]["accuracy"]["mean"] == pytest.approx(
        5 / 6
    )
    parts = [test["by"]["half"][part]["differences"] for part in ("first", "second")]
    gains = [part["pa_grpo - grpo"]["accuracy"]["mean"] for part in parts]
    assert gains == [pytest.approx((0.5 + 0.5 / 3) / 2), pytest.approx(0)]
    lost = result["curves"]["lost"]
    assert lost["pa_grpo"]["steps"] == [1, 2] and lost["grpo"]["last"]["mean"] == pytest.approx(0.2)
    assert lost["pa_grpo"]["mean"] == pytest.approx([0.1, 0.2])
    assert result["curves"]["accuracy"]["grpo"]["mean"] == [0.5, 1.0]  # of the rollouts
    apart = result["curve_differences"]["lost"]
    assert list(apart) == ["pa_grpo - grpo"], "SFT has no steps of RL"
    own, other = (lost[arm]["last"]["per_seed"] for arm in ("pa_grpo", "grpo"))
    gaps = [a - b for a, b in zip(own, other, strict=True)]
    assert apart["pa_grpo - grpo"]["last"]["per_seed"] == pytest.approx(gaps)
    whole = result["curves"]["accuracy"]["grpo"]["all"]
    assert whole["per_seed"] == [0.75] * 3 and whole["steps"] == 2 and whole["mean"] == 0.75
    assert result["skipped"] and result["seconds"]["sft"] is None
    page = write_page(STUDY, result, tmp_path, "p2r study toy --run runs/x").read_text()
    for text in (
        "# Study: toy\n\nIs a toy a study?",
        "    p2r study toy --run runs/x",
        "## What it says\n\nNothing yet.",
        "| SFT + PA-GRPO − SFT + GRPO |",
        "## Agreement with the paper",
        "+2.3",
        "letters",
        "| all steps of RL | lost | accuracy |",
        "(66.7 83.3 66.7)",
    ):
        assert text in page
    for name in ("study", "study-curves"):
        out = str(tmp_path / f"{name}.json")
        assert run_cli(["plot", name, str(run.folder / "study_toy.json"), "--out", out]) == 0
        drawn = json.loads((tmp_path / f"{name}.json").read_text())
        assert {"SFT + PA-GRPO"} <= {line["name"] for line in drawn["data"]}
    for name in ("toy.svg", "toy-curves.svg"):
        picture = (tmp_path / name).read_text()
        assert f"]({name})" in page and "SFT + PA-GRPO" in picture and "nan" not in picture


def test_intervals_over_questions_seeds_and_both():
    random = np.random.default_rng(1)
    seeds, questions = random.normal(0, 3, (8, 1)), random.normal(0, 1, (1, 50))
    found = measure_grid(seeds + questions)
    width = {name: ends["high"] - ends["low"] for name, ends in found.items() if "over" in name}
    width["over_questions"] = found["high"] - found["low"]
    assert width["over_questions"] < width["over_seeds"]
    expected = 2 * 1.96 * (seeds.var() / 8 + questions.var() / 50) ** 0.5
    assert width["over_both"] == pytest.approx(expected, rel=0.15)
    one = measure_grid(questions)
    assert one["over_seeds"] is None
    assert one["over_both"] == {end: one[end] for end in ("low", "high")}
    copies = np.repeat(questions, 4, axis=1)  # four questions about every clip
    clustered = measure_grid(copies, np.repeat(np.arange(50), 4))
    assert clustered["clusters"] == 50
    assert clustered["high"] - clustered["low"] > 1.7 * (
        measure_grid(copies)["high"] - measure_grid(copies)["low"]
    )
    few = measure_grid(np.array([[1.0, 0.0, np.nan], [1.0, 1.0, 0.0]]))  # by hand
    assert few["mean"] == 0.5 and few["per_seed"] == [0.5, pytest.approx(2 / 3, abs=1e-6)]
    half = 12.706 * abs(2 / 3 - 0.5) / 2**0.5 / 2**0.5  # t(1) × deviation / √2 seeds
    ends = few["over_seeds"]
    assert (ends["high"] - ends["low"]) / 2 == pytest.approx(half, rel=1e-4)
    empty = measure_grid(np.full((2, 3), np.nan))
    assert empty["n"] == 0 and empty["mean"] is None and empty["over_both"] is None


def test_result_files_of_older_versions_open(tmp_path):
    interval = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 8, "per_seed": [0.5, 0.5]}
    old = {"seeds": [0, 1], "questions": 8, "grpo": {"accuracy": interval}}
    old |= {"pa_grpo": {"accuracy": interval}, "difference": {"accuracy": interval}}
    write_json(tmp_path / "study_credit.json", old)
    result = read_result(tmp_path / "study_credit.json")
    assert result["views"]["test"]["arms"]["pa_grpo"] == old["pa_grpo"]
    assert result["study"] == "credit" and result["labels"]["grpo"] == "SFT + GRPO"
    with pytest.raises(UserError, match="run the study first"):
        read_result(tmp_path / "study_none.json")


# ---- the command


def test_a_file_of_the_user_is_a_study(run, made, tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        '"""Is mine better?"""\nfrom p2r.studies.base import PA_GRPO, SFT, Study\n'
        'STUDY = Study("mine", (SFT, PA_GRPO), (("pa_grpo", "sft"),), doc=__doc__)\n'
    )
    command = ["study", str(file), "--run", str(run.folder), "--seeds", "0,4", "--jobs", "1"]
    assert run_cli([*command, "--list"]) == 0
    shown = capsys.readouterr().out
    assert "seed 4, pa_grpo: train pa_grpo" in shown and "0 of 5 parts are done" in shown
    assert run_cli([*command, "--page", str(tmp_path / "docs")]) == 0
    captured = capsys.readouterr()
    assert "66.7" in captured.out and "[1/5]" in captured.err
    assert "Is mine better?" in (tmp_path / "docs" / "mine.md").read_text()
    assert run_cli(["study", str(file), "--run", str(run.folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seeds"] == [0, 4]  # those of the stored result
    file.write_text("STUDY = 1")
    assert run_cli(command) == 2
    assert "is not a p2r.studies.base.Study" in capsys.readouterr().err


def test_names_and_results_of_a_stranger_are_only_text(tmp_path, capsys, monkeypatch):
    hostile = "<img src=x onerror=alert(1)> [a](javascript:b) ![c](//d) | \x1b[2J"
    table = tables.markdown([["part", "n"], [hostile, "`rl.judge=oracle`"]])
    assert "<img" not in table and "](" not in table and "\x1b" not in table
    assert table.splitlines()[2].count(" | ") == 1 and "`rl.judge=oracle`" in table

    run = open_run(tmp_path / "run", "tiny1").folder
    write_json(run / "study_credit.json", {"views": {}, "seeds": ["../../../out"]})
    assert run_cli(["study", "--run", str(run)]) == 2
    assert "must be whole numbers" in capsys.readouterr().err

    monkeypatch.setenv("P2R_JUDGE_KEY", "secret-of-mine")
    for print_line in (study_command._print_line, study_run._print_line):
        print_line("a failed: HTTP 401 secret-of-mine \x1b[2J")
        assert capsys.readouterr().err == "a failed: HTTP 401 [key] [U+001B][2J\n"

    interval = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 4}
    arms = {"<a href=x>arm</a>": {"<b>m</b>": interval}}
    result = {
        "study": "<i>s</i>",
        "labels": {name: name for name in arms},
        "show": ["<b>m</b>"],
        "units": {},
        "views": {"test": {"arms": arms}},
        "curves": {"<u>c</u>": {name: {"steps": [1], "mean": [0.1]} for name in arms}},
    }
    for figure in (plots.study(result), plots.study_curves(result)):
        drawn = json.dumps(figure.to_plotly_json(), default=str)
        assert "&lt;" in drawn and not any(tag in drawn for tag in ("<a ", "<b>", "<i>", "<u>"))


def test_mistakes_are_errors(tmp_path, capsys):
    run = open_run(tmp_path / "run", "tiny1").folder
    for arguments, message in (
        (["study", "none", "--run", str(run)], "unknown study 'none': choose one of"),
        (["study", "--run", str(run)], "has no SFT model"),  # without a name: the credit study
        (["study", "--run", str(run), "--seeds", "0,x"], "--seeds '0,x'"),
        (["study"], "no run folder is given"),
    ):
        assert run_cli(arguments) == 2
        assert message in capsys.readouterr().err
    assert run_cli(["study", "--list", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(studies.study_names())


# ---- the studies of p2r


@pytest.mark.parametrize(
    ("name", "world"),
    [*((name, 2) for name in studies.study_names()), ("evidence", 1), ("domain", 1)],
)
def test_every_study_can_be_planned(name, world, run):
    study = studies.load_study(name)
    assert study.name == name and study.text["question"].endswith("?")
    assert set(study.text) >= {"says", "missing"}
    recipe = load_recipe("tiny1", [f"playground.generation={world}"])
    if world == 2:
        sizes = dict.fromkeys(("test", "ambiguous", "new_domain", "long", "false_notes"), 9)
        recipe = load_recipe("tiny1", ["playground.generation=2", *settings(sizes)])
    (run.folder / "recipe.yaml").write_text(recipe.to_yaml())
    plan = Plan(study, open_run(run.folder), (5,))
    check_equal(plan)
    assert plan.work() and plan.shown
    assert bool(plan.skipped) == (world == 1)
    for unit in plan.work():
        if isinstance(unit, Training) and unit.stage != "sft":
            check_rl(unit.run.recipe)
        assert unit.run.folder.is_relative_to(run.folder) and unit.run.recipe.seed in (0, 5)


def settings(sizes: dict[str, int]) -> list[str]:
    return [f"playground.{name}={size}" for name, size in sizes.items()]


def test_functions_and_records_are_named_in_the_same_way_in_every_process():
    assert work.repr_of(None) == "None" and "make_case" in work.repr_of(make_case)
    assert work.repr_of(Kept(0.5)) == "Kept(share=0.5)"
    assert work.repr_of(make_case) != work.repr_of(settings)

    assert len(work.repr_of(Mine()).split()) == 2, "a record of the user: also its source"

    def local(run, recipe):
        return []

    for nameless in (local, lambda run, recipe: [], partial(make_case, "q0"), object()):
        with pytest.raises(UserError, match="a study cannot name"):
            work.repr_of(nameless)


def test_dollars_and_tokens_of_a_curve_are_no_shares():
    mean = {"mean": 0.37, "low": 0.3, "high": 0.4}
    curves = {name: {"a": {"last": mean}} for name in ("judge/cost", "accuracy")}
    result = {"curves": curves, "labels": {}, "units": {}}
    assert tables.curve_rows(result)[1] == ["a", "0.4 [0.3, 0.4]", "37.0 [30, 40]"]


def test_the_models_of_a_study_share_the_budget_of_the_run(run):
    model = open_run(run.folder / "studies" / "models" / "x", "tiny1")
    share_books(model, run)
    assert books_of(model) == books_of(run)
