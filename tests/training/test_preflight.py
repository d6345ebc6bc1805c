"""The preflight measures the start model before the first RL step, and stops hopeless runs."""

import json

import numpy as np
import pytest
import torch
from small import read_lines, small_recipe
from small_rl import FULL, RuleJudge, Scripted, SilentJudge, generation, make_trainer

from p2r import data
from p2r.errors import PreflightError, TrainingError
from p2r.records import Case, ProcessReward, Question, Trace
from p2r.template import parse
from p2r.training.grpo import train_grpo
from p2r.training.preflight import (
    PromptLengths,
    rates_of,
    show_failing,
    why_not_start,
)
from p2r.training.probe import undone
from p2r.video import FrameCache

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]


def train(out, model, media, questions, *overrides, judge=None):
    recipe = small_recipe(
        model,
        "rl.steps=2",
        "rl.prompts_per_step=2",
        "rl.group_size=4",
        "rl.micro_batch=4",
        "rl.max_tokens=48",
        "rl.save_steps=1",
        "rl.preflight=2",
        *overrides,
    )
    asked = [questions[0], questions[2], questions[3]]
    return train_grpo(recipe, asked, model, out, judge=judge or RuleJudge(), data_root=media)


def report_of(out):
    return json.loads((out / "preflight.json").read_text())


@pytest.fixture(scope="module")
def begun(taught_folder, media, questions, tmp_path_factory):
    """A finished training with a preflight."""
    out = tmp_path_factory.mktemp("with")
    train(out, taught_folder, media, questions)
    return out


def test_a_model_after_sft_passes_and_its_rates_are_in_the_file(begun, questions):
    report = report_of(begun)
    assert report["passed"] and report["fault"] is None
    assert report["rollouts"] == 8 and len(report["questions"]) == 2
    rates = report["rates"]
    assert rates["parsed"] > 0.5 and rates["answered"] > 0.5 and rates["truncated"] < 0.5
    assert rates["parsed"] <= min(rates["format/perception"], rates["format/reasoning"])
    for name in ("accuracy", "sufficient", "collapse/perception", "collapse/reasoning"):
        assert 0 <= rates[name] <= 1
    assert rates["judge/unknown"] == 0


def test_the_longest_example_is_measured(begun, taught_folder, media, questions):
    longest = report_of(begun)["longest"]
    assert longest["question"] == "long" and longest["backward"]
    assert longest["max_tokens"] == 48 and longest["micro_batch"] == 4
    assert longest["seconds"] > 0 and longest["optimiser_mib"] > 1
    if longest["memory"]:
        assert longest["peak_mib"] > 50


@pytest.mark.parametrize("family", ["model_folder", "qwen3_folder"])
def test_a_prompt_is_counted_as_it_is_encoded(family, media, questions, request):
    folder = request.getfixturevalue(family)
    processor = data.load_processor(folder)
    settings = data.train_settings(small_recipe(folder).video)
    cache = FrameCache(None)
    lengths = PromptLengths(
        lambda q: data.read_frames(q, root=media, cache=cache, **settings), processor, "brief"
    )
    for question in questions:
        encoded = data.encode_prompts(processor, [question], [lengths(question)], "brief")
        assert lengths.of[question.id] == encoded["input_ids"].shape[1], question.id


def test_losses_and_weights_equal_those_of_a_run_without_preflight(
    begun, taught_folder, media, questions, tmp_path
):
    train(tmp_path, taught_folder, media, questions, "rl.preflight=0")
    assert not (tmp_path / "preflight.json").exists()
    rows = [read_lines(out / "metrics.jsonl") for out in (begun, tmp_path)]
    for with_it, without in zip(*rows, strict=True):
        assert with_it.keys() == without.keys()
        for name in without:
            if "time" not in name and name != "train_runtime":
                assert str(with_it[name]) == str(without[name]), name
    rollouts = [read_lines(out / "rollouts.jsonl") for out in (begun, tmp_path)]
    assert len(rollouts[0]) == 2 * 2 * 4, "the rollouts of the preflight belong to no step"
    assert [row["trace"]["text"] for row in rollouts[0]] == [
        row["trace"]["text"] for row in rollouts[1]
    ]
    weights = [data.load_model(out / "model").state_dict() for out in (begun, tmp_path)]
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def test_a_model_that_does_not_know_the_template_is_refused(
    model_folder, media, questions, tmp_path
):
    with pytest.raises(
        PreflightError, match=r"does not know the template: run SFT first"
    ) as refused:
        train(tmp_path, model_folder, media, questions)
    assert isinstance(refused.value, TrainingError)
    lines = str(refused.value).splitlines()
    assert [line[:5] for line in lines[1:]] == ["  1. ", "  2. ", "  3. "]
    assert all(len(line) < 400 for line in lines[1:])
    report = report_of(tmp_path)
    assert not report["passed"] and len(report["failing"]) == 3
    assert not (tmp_path / "model").exists() and not (tmp_path / "metrics.jsonl").exists()


def test_a_token_limit_that_is_too_low_is_named_and_may_be_raised(
    taught_folder, media, questions, tmp_path
):
    with pytest.raises(PreflightError, match=r"raise rl.max_tokens \(now 6\)") as refused:
        train(tmp_path, taught_folder, media, questions, "rl.max_tokens=6")
    assert "all 8 completions are cut off at 6 tokens" in str(refused.value)
    train(tmp_path, taught_folder, media, questions, "rl.steps=1")
    assert report_of(tmp_path)["passed"]


def test_a_silent_judge_gives_a_warning_and_no_error(
    taught_folder, media, questions, tmp_path, caplog
):
    train(tmp_path, taught_folder, media, questions, "rl.steps=1", judge=SilentJudge())
    warned = [r.getMessage() for r in caplog.records if "preflight: the judge" in r.getMessage()]
    assert len(warned) == 1 and "no connection to the judge" in warned[0]
    rates = report_of(tmp_path)["rates"]
    assert rates["judge/unknown"] == 1 and rates["collapse/perception"] == 1


def test_a_resumed_run_skips_the_preflight(taught_folder, media, questions, tmp_path):
    class Breaks(RuleJudge):
        def judge(self, questions, observations):
            if len(self.asked) > 0 and (tmp_path / "checkpoints" / "checkpoint-1").exists():
                raise KeyboardInterrupt
            return super().judge(questions, observations)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, taught_folder, media, questions, judge=Breaks())
    (tmp_path / "preflight.json").unlink()
    train(tmp_path, taught_folder, media, questions)
    assert not (tmp_path / "preflight.json").exists()
    assert [row["step"] for row in read_lines(tmp_path / "metrics.jsonl")] == [1, 2]


def test_gradients_are_removed_without_zero_grad_of_deepspeed(
    model_folder, media, questions, tmp_path
):
    """`DeepSpeedEngine.zero_grad` has no argument `set_to_none`."""
    trainer, _ = make_trainer(Scripted, model_folder, media, questions[:1], tmp_path)
    trainer.responses = [FULL, "2"]

    class Engine:
        def zero_grad(self):
            raise AssertionError("not needed")

    before = trainer.step
    with undone(trainer):
        batch = trainer._generate_and_score_completions(generation(questions[:1]))
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        trainer.compute_loss(trainer.model, batch).backward()
        assert any(weight.grad is not None for weight in trainer.model.parameters())
        trainer.model_wrapped = Engine()
    assert all(weight.grad is None for weight in trainer.model.parameters())
    assert trainer.step is before and not trainer._metrics["eval"]


# ------------------------------------------------------------------------------ reasons, by hand


def said(text: str, truncated: bool = False) -> Case:
    question = Question(id="q", problem="?", problem_type="numerical", answer="2")
    trace = Trace(question_id="q", text=text, problems=parse(text).problems, truncated=truncated)
    return Case(question=question, trace=trace)


def rates(**given):
    clean = {"format/perception": 1.0, "format/reasoning": 1.0, "truncated": 0.0, "answered": 1.0}
    return clean | {name.replace("_", "/"): rate for name, rate in given.items()}


BOTH = ("perception", "reasoning")
OPEN = "<observation>I see two.</observation> <think>So two."


def test_the_reason_depends_on_the_completions():
    assert why_not_start([said("2")], rates(), BOTH, 8) is None
    fault = why_not_start([said("2")] * 4, rates(format_perception=0), BOTH, 8)
    assert fault.startswith("none of 4 completions keeps the format of perception; ")
    assert "run SFT first" in fault
    fault = why_not_start([said(OPEN, True)] * 4, rates(format_reasoning=0, truncated=1), BOTH, 8)
    assert "all 4 completions are cut off at 8 tokens" in fault and "raise rl.max_tokens" in fault
    fault = why_not_start([said(OPEN)] * 4, rates(answered=0), BOTH, 8)
    assert "has a readable answer" in fault and "but do not keep it" in fault


def test_only_processes_that_rl_learns_from_must_keep_their_format():
    cases = [said("<think>So two.</think><answer>2</answer>")]
    assert why_not_start(cases, rates(format_perception=0), ("reasoning",), 8) is None


def test_a_reward_of_the_user_without_a_format_does_not_stop_the_training():
    reward = ProcessReward(accuracy=0.3, format=0.0, length=0.0)
    case = said(FULL).model_copy(update={"perception": reward, "reasoning": reward})
    case.trace.completion_tokens, case.trace.perception_tokens = 9, 4
    found = rates_of([case] * 2, np.full((2, 2), 0.3), 2)
    assert found["format/perception"] == found["format/reasoning"] == found["answered"] == 1
    assert why_not_start([case] * 2, found, BOTH, 8) is None


def test_failing_completions_are_different_short_and_on_one_line():
    lines = show_failing([said("a\nb"), said("a\nb"), said("x" * 900), said(""), said("c")])
    assert len(lines) == 3 and lines[0].startswith("q: a b [")
    assert all("\n" not in line and len(line) < 400 for line in lines)
    assert lines[2].startswith("q: (nothing)")


def test_with_adapters_and_the_settings_of_large_models(taught_folder, media, questions, tmp_path):
    # Gradient checkpointing, bfloat16 autocast, a micro-batch smaller than a group.
    settings = ["models.dtype=bfloat16", "tuning.lora_rank=2", "rl.micro_batch=2", "rl.steps=1"]
    train(tmp_path, taught_folder, media, questions, *settings)
    longest = report_of(tmp_path)["longest"]
    assert longest["backward"] and longest["optimiser_mib"] < 5
