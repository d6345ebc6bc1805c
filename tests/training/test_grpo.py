"""PA-GRPO: the loss sees the video, each process has its advantages, a run survives a kill."""

import shutil
from pathlib import Path

import pytest
import torch
from small import kill_at_line, read_lines, small_recipe, stopped_at_line
from small_rl import FULL, RuleJudge, SilentJudge, generation, make_trainer, scripted
from torch.testing import assert_close

from p2r import data
from p2r.errors import TrainingError, UserError
from p2r.judges import NO_OBSERVATION
from p2r.records import Case, Question, Trace, Verdict
from p2r.template import banned_token_ids
from p2r.training import grpo
from p2r.training.grpo import check_same_plan, grpo_arguments, plan_steps, train_grpo
from p2r.training.rl_checks import find_no_reward
from p2r.training.stage import hash_lines
from p2r.training.step_judge import JudgeWatch
from p2r.training.trainer import ProcessAwareGRPOTrainer

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]


def logps(trainer, batch, vision):
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        return (
            trainer._get_per_token_logps_and_entropies(
                trainer.model, ids, mask, batch["completion_ids"].size(1), vision=vision
            )[0]
            * batch["completion_mask"]
        )


# ------------------------------------------------------------------------- the loss sees the video


@pytest.fixture
def sampled(model_folder, media, questions, tmp_path):
    """A trainer at learning rate 0 and its micro-batches."""
    trainer, _ = make_trainer(ProcessAwareGRPOTrainer, model_folder, media, questions, tmp_path)
    trainer.model.train()
    trainer._prepare_inputs(generation(questions))
    return trainer, trainer._buffered_inputs


def test_policy_and_reference_agree_at_learning_rate_0_on_mixed_media(sampled):
    trainer, micro_batches = sampled
    assert len(micro_batches) == 5
    for batch in micro_batches:
        reference = batch["ref_per_token_logps"] * batch["completion_mask"]
        assert_close(logps(trainer, batch, batch["vision"]), reference, atol=1e-5, rtol=0)


def test_permuting_the_videos_breaks_the_agreement(sampled, questions, media):
    trainer, micro_batches = sampled
    pixels = {}
    for name in ("long", "twin"):
        question = next(q for q in questions if q.id == name)
        encoded = data.encode_prompts(
            trainer.processing_class, [question], [trainer.frames_of(question)], "brief"
        )
        pixels[name] = {key: encoded[key][0] for key in data.VISION_KEYS}
    broken = 0
    for batch in micro_batches:
        swapped = [
            pixels["twin"] if same(row, pixels["long"]) else
            pixels["long"] if same(row, pixels["twin"]) else row
            for row in batch["vision"]
        ]  # fmt: skip
        reference = batch["ref_per_token_logps"] * batch["completion_mask"]
        off = (logps(trainer, batch, swapped) - reference).abs().amax(1)
        for row, (before, after) in enumerate(zip(batch["vision"], swapped, strict=True)):
            broken += before is not after
            assert (off[row] > 1e-3) == (before is not after)
    assert broken == 4, "both rollouts of both videos of one grid"


def same(row, other):
    a, b = row["pixel_values_videos"], other["pixel_values_videos"]
    return a is not None and a.shape == b.shape and torch.equal(a, b)


def test_evaluation_sees_the_same_videos(model_folder, media, questions, tmp_path):
    trainer, cases = make_trainer(ProcessAwareGRPOTrainer, model_folder, media, questions, tmp_path)
    trainer.model.eval()  # neither shuffled nor split, and in batches of 8 of these 10 rows
    batch = trainer._prepare_inputs(generation(questions))
    reference = batch["ref_per_token_logps"] * batch["completion_mask"]
    assert_close(logps(trainer, batch, batch["vision"]), reference, atol=1e-5, rtol=0)
    assert trainer.compute_loss(trainer.model, batch).isfinite()
    assert not cases, "only rollouts that are trained on are kept"


def test_vision_tokens_are_never_sampled(model_folder, media, questions, tmp_path):
    trainer, _ = make_trainer(ProcessAwareGRPOTrainer, model_folder, media, questions, tmp_path)
    banned = banned_token_ids(trainer._tokenizer)
    assert len(banned) == 5

    def prefer_vision(module, inputs, logits):
        logits[..., banned] += 1000.0
        return logits

    trainer.model.lm_head.register_forward_hook(prefer_vision)
    trainer.model.train()
    batch = trainer._generate_and_score_completions(generation(questions))
    assert not torch.isin(batch["completion_ids"], torch.tensor(banned)).any()


# ---------------------------------------------------------------------- rewards and advantages


def test_observations_are_judged_once_and_only_where_there_is_one(
    model_folder, media, questions, tmp_path
):
    judge = RuleJudge()
    cut = "<observation>I see two. And then it is cut o"
    bare = "<think>So two.</think><answer>2</answer>"
    _, _, cases = scripted(
        model_folder, media, questions, tmp_path, [FULL, FULL, cut, bare], judge=judge
    )
    assert judge.asked == ["I see two."]
    assert [case.verdict.sufficient for case in cases] == [True, True, False, False]
    assert [case.perception.format for case in cases] == [1, 1, 0, 0]
    assert [case.accuracy for case in cases] == [1, 1, 0, 1]


# ------------------------------------------------------------------------------- the whole stage


def train(out: str, model: str, media: str, *overrides: str, judge=None) -> Path:
    """Run a short training; all arguments are paths, so that a subprocess can call it."""
    ask = {"problem": "How many?", "problem_type": "numerical", "answer": "2"}
    names = ["long.mp4", "twin.mp4", "short.mp4", "still.png", "broken.mp4", "absent.mp4"]
    questions = [
        Question(id=n, path=n, data_type="image" if n.endswith("png") else "video", **ask)
        for n in names
    ]
    recipe = small_recipe(
        model,
        "rl.steps=4",
        "rl.prompts_per_step=2",
        "rl.group_size=8",
        "rl.micro_batch=8",
        "rl.max_tokens=100",
        "rl.save_steps=2",
        "rl.learning_rate=3e-4",
        "rl.scheduler=constant",
        *overrides,
    )
    judge = judge or RuleJudge()
    return train_grpo(recipe, questions, model, out, judge=judge, data_root=media, run="r")


@pytest.fixture(scope="module")
def trained(taught_folder, media, tmp_path_factory):
    out = tmp_path_factory.mktemp("rl") / "whole"
    assert train(out, taught_folder, media) == out / "model"
    return out


def test_a_stage_writes_its_model_metrics_and_rollouts(trained):
    data.load_model(trained / "model")
    rows = read_lines(trained / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for name in (
        "kl",
        "rewards/perception/mean",
        "perception/accuracy",
        "perception/collapse",
        "joint/collapse",
        "reasoning/tokens",
        "truncated",
        "time/generate",
        "time/judge",
        "step_time",
    ):
        assert all(name in row for row in rows), name
    cases = [Case.model_validate(row) for row in read_lines(trained / "rollouts.jsonl")]
    assert len(cases) == 4 * 2 * 8 and len({case.id for case in cases}) == len(cases)
    skipped = {row["id"]: row["reason"] for row in read_lines(trained / "skipped.jsonl")}
    assert set(skipped) <= {"broken.mp4", "absent.mp4"} and skipped
    assert not {case.question.id for case in cases} & set(skipped), "skipped, never replaced"


def test_it_learns(trained):
    rewards = [row["reward"] for row in read_lines(trained / "metrics.jsonl")]
    assert rewards[-1] > rewards[0] + 0.5, rewards


def test_killed_and_started_again_it_ends_like_an_uninterrupted_training(
    trained, taught_folder, media, tmp_path
):
    out = tmp_path / "rl"
    kill_at_line(out / "metrics.jsonl", 3, train, out, taught_folder, media)
    (out / "checkpoints" / "checkpoint-99").mkdir()  # one that was cut off while it was written
    train(out, taught_folder, media)
    for name, kept in (("metrics.jsonl", ("step", "loss", "reward", "kl")), ("rollouts.jsonl", ())):
        whole, resumed = read_lines(trained / name), read_lines(out / name)
        assert len(whole) == len(resumed), "each line exactly once"
        for before, after in zip(whole, resumed, strict=True):
            if kept:
                assert [after[key] for key in kept] == [before[key] for key in kept], "bit for bit"
            else:
                assert after["trace"]["text"] == before["trace"]["text"]
    ends = [data.load_model(folder / "model").state_dict() for folder in (trained, out)]
    assert all(torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())
    (out / "checkpoints").mkdir()  # left by a kill right after the model was put in place
    train(out, taught_folder, media)
    assert not (out / "checkpoints").exists()


def test_a_setting_that_had_no_effect_at_first_may_not_change_at_a_resume(
    trained, taught_folder, media, tmp_path
):
    shutil.copy(trained / "made.json", tmp_path / "made.json")
    with pytest.raises(UserError, match=r"perception_loss was 0\.0, now 0\.01"):
        train(tmp_path, taught_folder, media, "rl.credit=outcome", "rl.perception_loss=0.01")


def test_with_two_updates_the_second_is_clipped_and_an_interrupted_batch_is_repeated(
    taught_folder, media, tmp_path
):
    """The first update of a batch has the ratio 1. The interruption is between both updates."""
    settings = ("rl.updates=2", "rl.learning_rate=1e-3", "rl.epsilon=0.05")
    ends = []
    for name in ("whole", "resumed"):
        out = tmp_path / name
        if name == "resumed":
            with stopped_at_line(3):
                train(out, taught_folder, media, *settings)
        train(out, taught_folder, media, *settings)
        ends.append(read_lines(out / "metrics.jsonl"))
        assert len(read_lines(out / "rollouts.jsonl")) == 2 * 2 * 8, "two batches for four updates"
    whole, resumed = ends
    clipped = [row["clip_ratio/region_mean"] for row in whole]
    assert clipped[0] == clipped[2] == 0 and clipped[1] > 0 and clipped[3] > 0
    assert "reward" in whole[0] and "reward" not in whole[1]
    kept = ("step", "loss", "kl", "clip_ratio/region_mean")
    assert [[row[key] for key in kept] for row in resumed] == [
        [row[key] for key in kept] for row in whole
    ], "bit for bit"


def test_the_settings_of_large_models_take_the_same_path(model_folder, media, tmp_path):
    # bfloat16 autocast and gradient checkpointing, where prompts are not shared in the loss.
    model = train(
        tmp_path, model_folder, media, "models.dtype=bfloat16", "rl.steps=1", "rl.max_tokens=8"
    )
    assert data.load_model(model).dtype == torch.float32
    assert abs(read_lines(tmp_path / "metrics.jsonl")[0]["kl"]) < 1e-3


def test_the_plan_takes_each_question_once_a_pass_and_never_twice_a_step(questions):
    rl = small_recipe(Path("x"), "rl.steps=4", "rl.prompts_per_step=2").rl
    rows, skipped = plan_steps(questions, rl, 0, find_no_reward)
    assert len(rows) == 8 and not skipped
    steps = [rows[i : i + 2] for i in range(0, 8, 2)]
    assert all(a.id != b.id for a, b in steps)
    assert len({question.id for question in rows[:4]}) == 4
    again, _ = plan_steps(questions, rl, 0, find_no_reward)
    assert again == rows
    with pytest.raises(TrainingError, match="a step takes 2"):
        plan_steps(questions[:1], rl, 0, find_no_reward)


def test_workers_that_have_planned_different_questions_stop(questions, monkeypatch):
    plans: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(grpo, "gather_object", lambda mine: [*mine, *plans])
    check_same_plan(questions, [])
    plans.append((hash_lines(["another"]), {"q9": "took longer than 30 s"}))
    with pytest.raises(TrainingError, match=r"worker 1 cannot read 'q9' \(took longer"):
        check_same_plan(questions, [])


def test_settings_that_cannot_be_divided_are_an_error(model_folder, tmp_path):
    processor = data.load_processor(model_folder)
    recipe = small_recipe(
        model_folder, "rl.prompts_per_step=3", "rl.group_size=2", "rl.micro_batch=4"
    )
    with pytest.raises(UserError, match=r"change rl.micro_batch"):
        grpo_arguments(recipe, processor, tmp_path)


def test_a_run_stops_when_the_judge_stays_silent_and_goes_on_when_it_is_back(
    taught_folder, media, tmp_path, caplog
):
    paths = (tmp_path, taught_folder, media)
    with pytest.raises(TrainingError, match="no connection to the judge") as stopped:
        train(*paths, judge=SilentJudge())
    assert "rl.max_unknown=0.5" in str(stopped.value) and "\n" not in str(stopped.value)
    # Steps 1 and 2 continue. After step 3, more than half of the last five steps are unknown.
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert [row["judge/unknown"] for row in rows] == [1, 1]
    assert len([r for r in caplog.records if "no verdict on" in r.getMessage()]) == 3
    cases = [Case.model_validate(row) for row in read_lines(tmp_path / "rollouts.jsonl")]
    assert len(cases) == 3 * 2 * 8, "the rollouts before the stop are saved"
    assert all(case.perception_advantage == 0 for case in cases)
    assert any(case.reasoning_advantage for case in cases), "it learnt from the answers"
    train(*paths)
    assert [row["step"] for row in read_lines(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]


@pytest.mark.parametrize("setting", ["rl.max_unknown=1", "rl.credit=outcome"])
def test_a_run_may_go_on_without_any_verdict(taught_folder, media, tmp_path, setting):
    train(tmp_path, taught_folder, media, setting, judge=SilentJudge())
    assert [row["judge/unknown"] for row in read_lines(tmp_path / "metrics.jsonl")] == [1] * 4


def watched(silent: int, answered: int, unreadable: int = 0) -> list[Case]:
    question = Question(id="q", problem="?", problem_type="numerical", answer="2")
    lines = [
        *[("seen", Verdict(sufficient=None, rationale="busy"))] * silent,
        *[("seen", Verdict(sufficient=True))] * answered,
        *[(None, NO_OBSERVATION)] * unreadable,
    ]
    return [
        Case(
            question=question,
            trace=Trace(question_id="q", text="", observation=observation),
            verdict=verdict,
        )
        for observation, verdict in lines
    ]


def test_the_share_of_unknown_verdicts_covers_judged_observations_of_five_steps():
    watch = JudgeWatch(0.5)
    for _ in range(2):  # an outage of two steps at the start passes
        watch.check(watched(silent=8, answered=0))
    for _ in range(4):
        watch.check(watched(silent=0, answered=8))
    for _ in range(2):
        watch.check(watched(silent=8, answered=0))
    watch.check(watched(silent=4, answered=4))  # 8 + 8 + 4 of 40: half is not more than half
    watch.check(watched(silent=0, answered=0, unreadable=8))  # nothing was asked: nothing changes
    with pytest.raises(TrainingError, match=r"on 1 of 1 observations .* reason: busy"):
        watch.check(watched(silent=1, answered=0, unreadable=7))


def test_with_max_unknown_0_the_first_unknown_verdict_stops():
    watch = JudgeWatch(0.0)
    watch.check(watched(silent=0, answered=8, unreadable=8))
    with pytest.raises(TrainingError, match=r"rl\.max_unknown=0;"):
        watch.check(watched(silent=1, answered=7))


@pytest.mark.parametrize(
    "settings", [["rl.rewards=[length]"], ["rl.credit=outcome", "rl.rewards=[perception, length]"]]
)
def test_rewards_that_leave_nothing_to_learn_from_are_an_error(
    model_folder, media, questions, tmp_path, settings
):
    recipe = small_recipe(model_folder, *settings)
    with pytest.raises(UserError, match=r"change rl.credit or rl.rewards"):
        train_grpo(recipe, questions, model_folder, tmp_path, judge=RuleJudge(), data_root=media)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rl.length_ranges.perception=[9, 1]", r"a range is \[lowest, highest\]"),
        ("rl.length_ranges.observation=[1, 9]", "known: perception, reasoning"),
        ("rl.perception_length=[1, 9]", "known: .*length_ranges"),
        ("rl.rewards=[magic]", "'perception', 'reasoning' or 'length'"),
        ("rl.normalise=tokens", "'sequence' or 'process'"),
        ("rl.max_unknown=2", "less than or equal to 1"),
    ],
)
def test_an_invalid_setting_is_named(setting, message):
    with pytest.raises(UserError, match=message):
        small_recipe(Path("x"), setting)


def test_process_credit_needs_a_judge(model_folder, media, questions, tmp_path):
    recipe = small_recipe(model_folder)
    with pytest.raises(TrainingError, match="needs a judge"):
        train_grpo(recipe, questions, model_folder, tmp_path, judge=None, data_root=media)
