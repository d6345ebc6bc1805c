"""The trainer that learners write in notebook 06 does what `p2r rl` does."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_rl import RuleJudge, loss_and_gradients, scripted
from torch.testing import assert_close

from p2r import data
from p2r.template import render
from p2r.workshop import checks

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))
import build  # noqa: E402

TEXTS = [
    render("I see two.", "So two.", "2"),
    render("I see a long row of one.", "So two, and nothing else.", "2"),
    "<observation>I see two.</observation><think>So three.</think><answer>3",
    "No tag at all, two.",
]
RANGES = "rl.length_ranges={perception: [1, 30], reasoning: [10, 60]}"


def learners(trainer, model_folder) -> dict:
    """Return the functions of the notebook, for the model and settings of a trainer."""
    processor = data.load_processor(model_folder)
    settings = trainer.settings
    return build.definitions(
        "06_from_scratch",
        processor=processor,
        tokenizer=processor.tokenizer,
        judge=RuleJudge(),
        settings=settings,
        frames_of=trainer.frames_of,
        run=SimpleNamespace(recipe=SimpleNamespace(style="brief")),
        GROUP=settings.group_size,
        EPSILON=settings.epsilon,
        BETA=settings.beta,
        TEMPERATURE=settings.temperature,
    )


def rollouts_of(own, trainer, batch, questions):
    """Return the batch of p2r's trainer as rollouts of the notebook."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    inputs = data.to_model_inputs(
        {key: [row[key] for row in batch["vision"]] for key in data.VISION_KEYS}
    )
    mask = batch["completion_mask"]
    inputs |= {
        "input_ids": ids,
        "attention_mask": torch.cat([batch["prompt_mask"], mask], 1),
        "mm_token_type_ids": trainer._token_types(ids, mask.shape[1]),
    }
    return own["Rollouts"](questions[:1] * 4, inputs, trainer.step.completions, mask)


@pytest.mark.parametrize("credit", ["process", "outcome"])
def test_the_notebooks_trainer_and_p2r_give_one_loss_and_gradient(
    credit, model_folder, media, questions, tmp_path
):
    trainer, batch, _ = scripted(
        model_folder,
        media,
        questions,
        tmp_path,
        TEXTS,
        f"rl.credit={credit}",
        RANGES,
        "rl.beta=0.1",
        "rl.temperature=0.6",
    )
    own = learners(trainer, model_folder)
    rollouts = rollouts_of(own, trainer, batch, questions)
    reference = data.load_model(model_folder)
    for weights in reference.parameters():  # so that the KL term is not zero
        weights.data += 0.01 * torch.randn(
            weights.shape, generator=torch.Generator().manual_seed(1)
        )
    with torch.no_grad():
        length = rollouts.mask.shape[1]
        batch["ref_per_token_logps"] = own["log_probs"](reference, rollouts.inputs, length)
    wanted, gradients = loss_and_gradients(trainer, batch)

    rewards, borders = own["score"](rollouts)
    function = own["advantages"] if credit == "process" else own["grpo_advantages"]
    found = own["spread"](function(rewards, 4), borders, rollouts.mask)
    assert rewards.unique().numel() > 2 and borders.tolist() == batch["perception_tokens"].tolist()
    assert_close(rewards, trainer.step.rewards)
    assert_close(found, batch["advantages"], rtol=0, atol=1e-5)

    trainer.model.zero_grad()
    value, _ = own["step_loss"](trainer.model, reference, rollouts, function)
    value.backward()
    assert_close(value.detach(), wanted, rtol=0, atol=1e-5)
    mine = [p.grad for p in trainer.model.parameters() if p.grad is not None]
    assert max(g.abs().max() for g in gradients) > 1e-3
    for ours, theirs in zip(mine, gradients, strict=True):
        assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_check_of_a_step_finds_wrong_ones(model_folder, media, questions, tmp_path, capsys):
    trainer, batch, _ = scripted(model_folder, media, questions, tmp_path, TEXTS, RANGES)
    own = learners(trainer, model_folder)
    rollouts = rollouts_of(own, trainer, batch, questions)
    policy, reference = trainer.model, data.load_model(model_folder)
    bench = checks.Workbench(own["tokenizer"], own["judge"], trainer.settings)

    def check(function):
        used = checks.test_step_loss(function, policy, reference, rollouts, bench)
        return used, capsys.readouterr().out

    right = own["step_loss"]
    assert check(right) == (right, "passed: loss and gradient agree with p2r.training.step\n")

    def detached(*arguments):
        value, rewards = right(*arguments)
        return value.detach(), rewards

    def doubled(*arguments):
        value, rewards = right(*arguments)
        return value.detach() + 2 * (value - value.detach()), rewards

    def unwritten(*arguments):
        raise NotImplementedError

    for function, said in (
        (detached, "the loss has no gradient"),
        (doubled, "its gradient does not"),
        (lambda *arguments: right(*arguments)[0], "return two things"),
        (unwritten, "not written yet"),
    ):
        used, out = check(function)
        assert said in out and used.is_p2rs
    value, _ = used(policy, reference, rollouts, own["advantages"])
    assert_close(value, right(policy, reference, rollouts, own["advantages"])[0])

    assert checks.test_log_probs(own["log_probs"], policy, rollouts, 1.0) is own["log_probs"]
    assert checks.test_log_probs(
        lambda m, i, n: own["log_probs"](m, i, n + 1), policy, rollouts, 1.0
    ).is_p2rs
    warmer = checks.test_log_probs(own["log_probs"], policy, rollouts, 0.6)
    assert warmer.is_p2rs and "row and token at [0" in capsys.readouterr().out
    unshifted = checks.test_log_probs(
        lambda m, i, n: own["log_probs"](m, i, n).roll(1, 1), policy, rollouts, 1.0
    )
    assert unshifted.is_p2rs and "row and token at [0]" in capsys.readouterr().out


def test_rollouts_end_with_the_turn(model_folder, media, questions, tmp_path):
    trainer, _, _ = scripted(model_folder, media, questions, tmp_path, TEXTS)
    own = learners(trainer, model_folder)
    trainer.settings.max_tokens = 6
    torch.manual_seed(0)
    made = own["roll_out"](data.load_model(model_folder), questions[:2])
    assert [question.id for question in made.questions] == ["long"] * 4 + ["twin"] * 4
    assert made.mask.sum(1).tolist() == [len(ids) for ids in made.completions]
    end = own["tokenizer"].eos_token_id
    assert all(end not in ids[:-1] for ids in made.completions)
    assert made.inputs["input_ids"].shape == made.inputs["attention_mask"].shape
