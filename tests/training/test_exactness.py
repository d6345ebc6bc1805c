"""PA-GRPO against eq. (6), eq. (7) and TRL's GRPO: advantage and weight of every token."""

import pytest
import torch
from small_rl import (
    FULL,
    RuleJudge,
    WithResponses,
    dataset_of,
    generation,
    loss_and_gradients,
    make_trainer,
    scripted,
)
from torch.testing import assert_close
from trl import GRPOTrainer

from p2r import data
from p2r.rewards import process_masks
from p2r.runs.recipe import load_recipe
from p2r.template import render, token_processes
from p2r.training.grpo import grpo_arguments
from p2r.training.trainer import ProcessAwareGRPOTrainer

pytestmark = pytest.mark.slow
pytest_plugins = ["small_fixtures"]
BLIND = render("I see.", "So two.", "2")  # insufficient, right
WRONG = render("I see two.", "So three.", "3")  # sufficient, wrong
LOST = render("I see.", "So three.", "3")  # neither
FOG = render("I see fog.", "So two.", "2")  # of unknown sufficiency
ANY_LENGTH = "rl.length_ranges={perception: [1,999], reasoning: [1,999]}"


# ------------------------------------------------------------------- advantages, by eq. (6)


def test_each_token_gets_the_advantage_of_its_process(model_folder, media, questions, tmp_path):
    _, batch, cases = scripted(
        model_folder, media, questions, tmp_path, [FULL, BLIND, WRONG, FULL], ANY_LENGTH
    )
    assert [case.verdict.sufficient for case in cases] == [True, False, True, True]
    assert [case.accuracy for case in cases] == [1, 1, 0, 1]
    # Three rewards of 2.2 and one of 1: mean 1.9, std 0.6.
    assert [case.perception.total for case in cases] == [2.2, 1, 2.2, 2.2]
    assert [case.reasoning.total for case in cases] == [2.2, 2.2, 1, 2.2]
    few, many = pytest.approx(-0.9 / (0.6 + 1e-4)), pytest.approx(0.3 / (0.6 + 1e-4))
    assert [case.perception_advantage for case in cases] == [many, few, many, many]
    assert [case.reasoning_advantage for case in cases] == [many, many, few, many]
    for tokens, case in zip(batch["advantages"], cases, strict=True):
        border, end = case.trace.perception_tokens, case.trace.completion_tokens
        assert tokens[:border].unique().tolist() == [pytest.approx(case.perception_advantage)]
        assert tokens[border:end].unique().tolist() == [pytest.approx(case.reasoning_advantage)]
        assert (tokens[end:] == 0).all()


@pytest.mark.parametrize(
    "settings",
    [
        ["rl.credit=outcome"],
        ["rl.credit=outcome", "rl.rewards=[reasoning]"],
        ["rl.rewards=[reasoning, length]"],  # without R_P
    ],
)
def test_learning_from_the_outcome_alone_ignores_the_judge(
    model_folder, media, questions, tmp_path, settings
):
    said = [FULL, BLIND, WRONG, FULL]
    _, batch, cases = scripted(model_folder, media, questions, tmp_path, said, *settings)
    for row, case in enumerate(cases):
        assert case.perception_advantage == case.reasoning_advantage
        assert len(batch["advantages"][row, : case.trace.completion_tokens].unique()) == 1
    assert cases[0].reasoning_advantage == cases[1].reasoning_advantage > 0
    assert cases[2].reasoning_advantage < 0


def test_without_the_reasoning_reward_the_observation_decides(
    model_folder, media, questions, tmp_path
):
    said = [FULL, BLIND, WRONG, LOST]
    _, _, cases = scripted(
        model_folder, media, questions, tmp_path, said, "rl.rewards=[perception, length]"
    )
    assert [case.reasoning_advantage > 0 for case in cases] == [True, False, True, False]
    assert all(case.perception_advantage == case.reasoning_advantage for case in cases)


@pytest.mark.parametrize("rewards", ["[perception, reasoning, length]", "[perception, reasoning]"])
def test_without_the_length_reward_there_is_no_length_bonus(
    model_folder, media, questions, tmp_path, rewards
):
    _, _, cases = scripted(
        model_folder, media, questions, tmp_path, [FULL, LOST], ANY_LENGTH, f"rl.rewards={rewards}"
    )
    paid = 0.2 if "length" in rewards else 0
    assert [case.perception.length for case in cases] == [paid, 0]
    assert [case.reasoning.length for case in cases] == [paid, 0]


# ------------------------------------------------------------------- malformed and cut off


def test_every_token_of_a_malformed_or_truncated_rollout_has_one_process(
    model_folder, media, questions, tmp_path
):
    whole = data.load_processor(model_folder).tokenizer(FULL)["input_ids"]
    said = [whole[:end] for end in range(1, len(whole) + 1)]  # cut off after every token
    said += [
        "<think>So two.</think><answer>2</answer>",
        "<observation>I see two.</<observation> <think>So.</think><answer>2</answer>",
        "</observation><observation>I see two. <think>So.</think>",
        FULL + FULL,
        "2",
    ]
    _, batch, cases = scripted(model_folder, media, questions[-1:], tmp_path, said)
    lengths = torch.tensor([case.trace.perception_tokens for case in cases])
    looked, reasoned = process_masks(lengths, batch["completion_mask"])
    assert torch.equal(looked.int() + reasoned.int(), batch["completion_mask"].int())
    tokenizer = data.load_processor(model_folder).tokenizer
    for row, case in enumerate(cases):
        count = case.trace.completion_tokens
        named = token_processes(tokenizer, batch["completion_ids"][row, :count])
        assert [name == "P" for name in named] == looked[row, :count].tolist()
        assert [name == "R" for name in named] == reasoned[row, :count].tolist()
        assert not batch["completion_mask"][row, count:].any()
    assert [case.trace.truncated for case in cases] == [True] * len(whole) + [False] * 5
    assert 0 == lengths.min() < lengths.max() < len(whole)


# ------------------------------------------------------------------- unknown verdicts


def test_an_unknown_verdict_gives_no_gradient(model_folder, media, questions, tmp_path):
    trainer, batch, cases = scripted(
        model_folder, media, questions, tmp_path, [FULL, FOG, BLIND, FULL], "rl.beta=0.0"
    )
    assert cases[1].verdict.sufficient is None and cases[1].perception.total is None
    # Its reasoning reward equals those of the others, so this rollout gives no gradient.
    alone = {key: value[1:2] for key, value in batch.items() if key != "num_items_in_batch"}
    _, gradients = loss_and_gradients(trainer, {**alone, "num_items_in_batch": torch.tensor(1)})
    assert all((gradient == 0).all() for gradient in gradients)


def test_an_unknown_verdict_is_excluded_from_its_group(model_folder, media, questions, tmp_path):
    fog_and_wrong = render("I see fog.", "So three.", "3")
    said = [FULL, BLIND, FULL, fog_and_wrong]
    trainer, batch, cases = scripted(model_folder, media, questions, tmp_path, said, ANY_LENGTH)
    # Rewards of 2.2, 1 and 2.2: mean 1.8, std 1.2 / sqrt(3).
    std = 1.2 / 3**0.5 + 1e-4
    found = [case.perception_advantage for case in cases]
    assert found == pytest.approx([0.4 / std, -0.8 / std, 0.4 / std, 0])
    gradient = gradient_of_log_probs(trainer, batch)
    looked = cases[3].trace.perception_tokens
    assert looked > 0 and (gradient[3, :looked] == 0).all()
    assert (gradient[3, looked : cases[3].trace.completion_tokens] > 0).all(), "it was wrong"


# ------------------------------------------------------------------- the weight of each token


def gradient_of_log_probs(trainer, batch, reference=None):
    """Return ∂loss/∂log-prob of every token; the log-probs of the policy are 0.

    With `reference` the KL term is added, for reference log-probs of that value.
    """
    logps = torch.zeros_like(batch["completion_ids"], dtype=torch.float, requires_grad=True)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (logps, logps.detach(), None)
    trainer.beta = 0.0 if reference is None else 1.0
    if reference is not None:
        batch = {**batch, "ref_per_token_logps": torch.full_like(logps, reference)}
    trainer.compute_loss(trainer.model, batch).backward()
    return logps.grad


@pytest.mark.parametrize("normalise", ["sequence", "process"])
def test_the_weight_of_each_token_in_the_loss(model_folder, media, questions, tmp_path, normalise):
    bare = "<think>So two.</think><answer>2</answer>"
    said = [FULL, render("I see two, and one more of them.", "So.", "2"), bare, "2"]
    trainer, batch, cases = scripted(
        model_folder, media, questions, tmp_path, said, f"rl.normalise={normalise}"
    )
    mask = batch["completion_mask"]
    expected = torch.zeros(mask.shape)
    for row, case in enumerate(cases):
        border, end = case.trace.perception_tokens, case.trace.completion_tokens
        assert (border == 0) == (row > 1)
        if normalise == "process" and border:
            expected[row, :border] = 1 / (2 * border)
            expected[row, border:end] = 1 / (2 * (end - border))
        else:
            expected[row, :end] = 1 / end
    expected /= len(cases)
    # The clipped term: with advantage 1 and ratio 1, minus the weight.
    clipped = gradient_of_log_probs(trainer, {**batch, "advantages": torch.ones(mask.shape)})
    assert_close(clipped, -expected, atol=1e-8, rtol=1e-6)
    # The KL term exp(r) − r − 1, r = 1: weight × (1 − e).
    still = {**batch, "advantages": torch.zeros(mask.shape)}
    kl = gradient_of_log_probs(trainer, still, reference=1.0)
    assert_close(kl, expected * (1 - torch.e), atol=1e-8, rtol=1e-6)
    # The ratio to the old policy does not change the KL term.
    moved = {**still, "old_per_token_logps": torch.full(mask.shape, -0.5)}
    kl = gradient_of_log_probs(trainer, moved, reference=1.0)
    assert_close(kl, expected * (1 - torch.e), atol=1e-8, rtol=1e-6)


def test_the_settings_are_those_of_the_paper_and_not_trl_defaults(model_folder, tmp_path):
    arguments = grpo_arguments(load_recipe("7b"), data.load_processor(model_folder), tmp_path)
    chosen = {
        "loss_type": "grpo",
        "beta": 0.04,
        "epsilon": 0.2,
        "scale_rewards": "group",
        "use_bias_correction_kl": False,
        "mask_truncated_completions": False,
        "max_completion_length": 768,
        "num_generations": 8,
        "num_iterations": 1,
        "temperature": 1.0,
        "top_p": 0.95,
        "logging_steps": 1,
        "bf16": True,
    }
    assert {name: getattr(arguments, name) for name in chosen} == chosen
    # All rollouts of a step are one batch of one update.
    assert arguments.steps_per_generation == arguments.gradient_accumulation_steps == 56 // 7


def test_the_weights_follow_their_rows_into_the_micro_batches(
    model_folder, media, questions, tmp_path
):
    trainer, _ = make_trainer(
        Scripted5, model_folder, media, questions, tmp_path, "rl.normalise=process"
    )
    trainer.model.train()
    trainer._prepare_inputs(generation(questions))
    borders = set()
    for batch in trainer._buffered_inputs:
        for weights, mask in zip(batch["weights"], batch["completion_mask"], strict=True):
            assert weights.sum() == pytest.approx(mask.sum().item())
            assert ((weights > 0) == mask.bool()).all()
            borders.add((weights == weights[0]).sum().item())
    assert len(borders) > 1, "rows of different weights"


class Scripted5(WithResponses, ProcessAwareGRPOTrainer):
    """Two rollouts, of different lengths, on each of five questions."""

    @property
    def responses(self):
        return [FULL, render("I see two, and one more of them.", "So.", "2")] * 5


# ------------------------------------------------------------------- TRL's GRPO to 1e-6


class Plain(WithResponses, GRPOTrainer):
    """TRL's own trainer with the same prompts and responses."""

    prompt_ids: list[int]

    def _tokenize_prompts(self, prompts):
        return [self.prompt_ids] * len(prompts), None, {}


def plain_batch(ours, batch, model, question, rewards):
    """A plain GRPO trainer whose one reward is `rewards`, and its batch of the same rollouts."""
    trainer = Plain(
        str(model),
        reward_funcs=lambda **columns: rewards,
        args=ours.args,
        train_dataset=dataset_of([question]),
        processing_class=data.load_processor(model),
    )
    trainer.prompt_ids = batch["prompt_ids"][0].tolist()
    trainer.responses = ours.responses
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer, trainer._generate_and_score_completions(generation([question], len(rewards)))


def stepped_away(trainer, batch):
    """Return loss and gradients in double precision, after a random change of the policy.

    The change makes the KL term and the clipping active.
    """
    trainer.model.double()
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in trainer.model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=noise, dtype=weight.dtype)
    old = batch["ref_per_token_logps"]  # both start from the same weights
    return loss_and_gradients(trainer, {**batch, "old_per_token_logps": old})


EMPTY_REASONING = ["<observation>I see two.</observation>", "<observation>I see.</observation>"]


@pytest.mark.parametrize(
    ("said", "process", "settings"),
    [
        pytest.param([FULL, LOST, FULL, LOST], "reasoning", [], id="equal rewards"),
        pytest.param(
            [text.split("</observation> ")[1] for text in (FULL, LOST, FULL, LOST)],
            "reasoning",
            [],
            id="no perception",
        ),
        pytest.param(
            [text.split("</observation> ")[1] for text in (FULL, LOST, FULL, LOST)],
            "reasoning",
            ["rl.normalise=process"],
            id="no perception, by process",
        ),
        pytest.param(EMPTY_REASONING, "perception", [], id="no reasoning"),
        pytest.param(
            EMPTY_REASONING, "perception", ["rl.normalise=process"], id="no reasoning, by process"
        ),
        pytest.param(
            [FULL, BLIND, WRONG, FULL], "reasoning", ["rl.credit=outcome"], id="credit outcome"
        ),
        pytest.param(
            [FULL, BLIND, WRONG, FULL], "perception", ["rl.rewards=[perception]"], id="without R_R"
        ),
    ],
)
def test_with_one_reward_loss_and_gradients_equal_those_of_trl(
    model_folder, media, questions, tmp_path, said, process, settings
):
    if process == "perception" and said is EMPTY_REASONING:  # it ends with its last tag
        tokenizer = data.load_processor(model_folder).tokenizer
        said = [tokenizer(text)["input_ids"] for text in said]
    question = questions[-1]  # without media: TRL alone has no video in the loss
    settings = [ANY_LENGTH, "rl.beta=0.04", *settings]
    trainer, batch, cases = scripted(
        model_folder, media, [question], tmp_path, said, *settings, judge=RuleJudge()
    )
    rewards = [getattr(case, process).total for case in cases]
    assert len(set(rewards)) > 1
    ends = [(case.trace.perception_tokens, case.trace.completion_tokens) for case in cases]
    if said[0] == FULL:
        assert all(0 < looked < count for looked, count in ends)
    else:
        assert all(looked == (count if process == "perception" else 0) for looked, count in ends)
    theirs, their_batch = plain_batch(trainer, batch, model_folder, question, rewards)
    for key in ("prompt_ids", "completion_ids", "completion_mask"):
        assert torch.equal(batch[key], their_batch[key]), key
    loss, gradients = stepped_away(trainer, batch)
    plain_loss, plain_gradients = stepped_away(theirs, their_batch)
    assert abs(plain_loss) > 1e-3 and len(gradients) == len(plain_gradients)
    assert max(gradient.abs().max() for gradient in gradients) > 1e-2
    assert_close(loss, plain_loss, atol=1e-6, rtol=0)
    for mine, trls in zip(gradients, plain_gradients, strict=True):
        assert_close(mine, trls, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("empty_perception", [False, True])
def test_with_video_loss_and_gradients_equal_those_of_grpo(
    model_folder, media, questions, tmp_path, empty_perception
):
    # The same forward pass with one advantage per response instead of one per token.
    said = [FULL, LOST, FULL, LOST]
    if empty_perception:
        said = [text.split("</observation> ")[1] for text in said]
    trainer, batch, cases = scripted(
        model_folder, media, questions, tmp_path, said, ANY_LENGTH, "rl.beta=0.04"
    )
    if not empty_perception:
        assert all(case.perception.total == case.reasoning.total for case in cases)
    assert all(case.trace.perception_tokens == 0 for case in cases) == empty_perception
    ours = loss_and_gradients(trainer, batch)
    rewards = torch.tensor([case.reasoning.total for case in cases])
    outcome = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    theirs = loss_and_gradients(trainer, {**batch, "advantages": outcome[:, None]})
    assert_close(ours[0], theirs[0], atol=1e-6, rtol=0)
    for mine, trls in zip(ours[1], theirs[1], strict=True):
        assert_close(mine, trls, atol=1e-6, rtol=1e-6)
