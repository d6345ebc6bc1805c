"""Judges and truth in RL: a grounded or noisy judge changes the loss, and the log has the truth."""

from __future__ import annotations

import math

import pytest
import torch

from p2r.errors import UserError
from p2r.judges import make_judge
from p2r.playground.splits import make_question
from p2r.playground.truth import missing_facts
from p2r.runs.recipe import load_recipe
from p2r.template import render
from p2r.training import step as pa_grpo
from p2r.training.rl_checks import check_rl, judge_of
from p2r.training.step_judge import StepJudge
from p2r.training.step_metrics import rollout_metrics


class Tokenizer:
    """One token per character."""

    def encode(self, text):
        return list(map(ord, text))

    def decode(self, ids, **_):
        return "".join(map(chr, ids))

    def batch_decode(self, rows, **_):
        return [self.decode(ids) for ids in rows]


def motion_question():
    made = (make_question("train", index, 2) for index in range(10))
    return next(question for question in made if question.meta["kind"] == "motion")


def scored(judge, *settings):
    """Return a scored step on four responses: true, with a false sentence, insufficient, wrong."""
    question = motion_question()
    (needed,) = missing_facts(question, "")
    name = needed.partition(" is ")[0]
    seen = [needed, f"{needed} The sign says NOPE.", f"{name} is there.", needed]
    said = [question.answer] * 3 + ["nothing"]
    rl = load_recipe("tiny", [f"rl.judge={judge}", *settings]).rl
    step = pa_grpo.Step([question] * 4, group_size=4)
    step.texts = [render(o, "So.", a) for o, a in zip(seen, said, strict=True)]
    step.completions = [Tokenizer().encode(text) for text in step.texts]
    step.truncated = [False] * 4
    asking = StepJudge(make_judge(rl.judge), timeout=60, retries=0)
    pa_grpo.judge(step, asking)
    pa_grpo.score(step, asking.answer(), Tokenizer(), rl)
    pa_grpo.advantages(step, rl)
    longest = max(map(len, step.completions))
    mask = torch.tensor([[1] * len(c) + [0] * (longest - len(c)) for c in step.completions])
    batch = pa_grpo.loss_inputs(step, mask, rl)
    log_probs = torch.zeros(mask.shape, requires_grad=True)
    pa_grpo.loss(batch, log_probs, 0.2, 0.0)[0].backward()
    return step, [float(row[0]) for row in -log_probs.grad]  # of the first token of perception


def signs(values):
    return [0 if abs(v) < 1e-9 else math.copysign(1, v) for v in values]


def test_a_grounded_and_a_noisy_judge_reach_the_loss():
    _, oracle = scored("oracle")
    _, grounded = scored("grounded")
    _, noisy = scored("noisy:1.0:oracle")
    assert signs(oracle) == [1, 1, -1, 1]
    assert signs(grounded) == [1, -1, -1, 1], "a false sentence is not sufficient"
    assert signs(noisy) == [-1, -1, 1, -1], "every verdict is inverted"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("rl.rewards=[reasoning,length]", [1, 1, 1, -1]),  # without R_P: GRPO
        ("rl.rewards=[perception,length]", [1, 1, -1, 1]),  # without R_R
        ("rl.credit=outcome", [1, 1, 1, -1]),
        ("rl.credit=shared", [1, 1, -1, -1]),
        ("rl.credit=turn", [1, 1, -1, -1]),
    ],
)
def test_every_switch_reaches_the_loss_of_the_first_token(setting, expected):
    assert signs(scored("oracle", setting)[1]) == expected


def test_without_the_length_reward_all_lengths_are_equal():
    longest = scored("oracle")[0].cases[0].trace.perception_tokens
    ranges = f"rl.length_ranges.perception=[1,{longest}]"  # the second response is longer
    for rewards, equal in (("[perception,reasoning]", True), ("[perception,length]", False)):
        step, _ = scored("oracle", ranges, f"rl.rewards={rewards}")
        assert (step.advantages[0, 0] == step.advantages[1, 0]) == equal


def test_the_log_tells_the_truth_where_the_scene_is_known():
    step, _ = scored("oracle")
    found = rollout_metrics(step.cases, step.rewards.numpy(), 4)
    assert found["exact"] == 0.75 and found["perception/accuracy"] == 0.75
    assert found["faithful"] == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert found["sufficient and true"] == 0.5
    for case in step.cases:
        case.question = case.question.model_copy(update={"meta": {}})
    assert "faithful" not in rollout_metrics(step.cases, step.rewards.numpy(), 4)


def test_no_judge_is_needed_without_the_perception_reward():
    for settings in (["rl.credit=critic"], ["rl.credit=outcome", "rl.perception_loss=0.01"]):
        recipe = load_recipe("tiny", [*settings, "rl.judge=none"])
        assert check_rl(recipe) == ("reasoning",) and judge_of(recipe) == "none"
    with pytest.raises(UserError, match="needs verdicts"):
        judge_of(load_recipe("tiny", ["rl.credit=critic_process", "rl.judge=none"]))
