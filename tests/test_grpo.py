"""PA-GRPO: the loss sees the video, each process has its advantages, a run survives a kill."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from small import VIDEO, kill_at_line, read_lines, small_recipe
from torch.testing import assert_close
from trl.trainer.utils import nanstd

from p2r import data
from p2r.grpo import grpo_arguments, plan_steps, train_grpo
from p2r.records import Case, Question, Verdict
from p2r.template import banned_token_ids, render
from p2r.trainer import ProcessAwareGRPOTrainer
from p2r.training import TrainingError
from p2r.video import FrameCache

pytest_plugins = ["small_fixtures"]
FULL = render("I see two.", "So two.", "2")


class RuleJudge:
    """An observation is sufficient if it says "two"; of one that says "fog" nobody knows."""

    def __init__(self):
        self.asked = []

    def judge(self, questions, observations):
        self.asked += observations
        return [Verdict(sufficient=None if "fog" in o else "two" in o) for o in observations]


class Scripted(ProcessAwareGRPOTrainer):
    """Says what it is told instead of sampling; all else is real."""

    responses: list[str]

    def _generate_single_turn(self, prompt_ids, images, fields, num_generations):
        ids = [
            [*self._tokenizer(text)["input_ids"], self._tokenizer.eos_token_id]
            for text in self.responses
        ]
        return ids, None


def make_trainer(kind, model, media, questions, tmp_path, *overrides, judge=None):
    """A trainer whose one step takes all `questions`, and the list its cases go to."""
    recipe = small_recipe(
        model,
        "rl.steps=1",
        f"rl.prompts_per_step={len(questions)}",
        "rl.group_size=2",
        "rl.micro_batch=2",
        "rl.max_tokens=12",
        "rl.learning_rate=0.0",
        *overrides,
    )
    processor = data.load_processor(model)
    cache, cases = FrameCache(None), []
    trainer = kind(
        str(model),
        questions={question.id: question for question in questions},
        frames_of=lambda q: data.read_frames(q, root=media, cache=cache, **VIDEO),
        judge=judge or RuleJudge(),
        settings=recipe.rl,
        style="brief",
        on_rollouts=cases.extend,
        trace_fields={"run": "test"},
        args=grpo_arguments(recipe, processor, tmp_path),
        train_dataset=dataset_of(questions),
        processing_class=processor,
    )
    return trainer, cases


def dataset_of(questions):
    return Dataset.from_list([{"prompt": q.problem, "question": q.id} for q in questions])


def generation(questions, group_size=2):
    return [{"prompt": q.problem, "question": q.id} for q in questions for _ in range(group_size)]


def logps(trainer, batch, vision):
    trainer._vision = vision
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        return (
            trainer._get_per_token_logps_and_entropies(
                trainer.model, ids, mask, batch["completion_ids"].size(1)
            )[0]
            * batch["completion_mask"]
        )


# ------------------------------------------------------------------------- the loss sees the video


@pytest.fixture
def sampled(model_folder, media, questions, tmp_path):
    """A trainer at learning rate 0 and its micro-batches, shuffled and split by TRL."""
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


def test_sharing_prompts_changes_neither_log_probs_nor_gradients(sampled):
    trainer, micro_batches = sampled
    inputs = {**micro_batches[0], "vision": micro_batches[0]["vision"]}
    gradients = []
    for keep_states in (True, False):
        trainer.args.gradient_checkpointing = not keep_states  # without states nothing is shared
        trainer.model.zero_grad()
        inputs["advantages"] = torch.ones_like(inputs["completion_ids"], dtype=torch.float)
        trainer.current_gradient_accumulation_steps = 1
        trainer._compute_loss(trainer.model, inputs).backward()
        gradients.append({n: p.grad.clone() for n, p in trainer.model.named_parameters()
                          if p.grad is not None})  # fmt: skip
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert_close(gradient, gradients[1][name], atol=2e-5, rtol=1e-3, msg=name)


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


def scripted(model, media, questions, tmp_path, responses, *overrides, judge=None):
    size = len(responses)
    trainer, cases = make_trainer(
        Scripted,
        model,
        media,
        questions[:1],
        tmp_path,
        f"rl.group_size={size}",
        f"rl.micro_batch={size}",
        *overrides,
        judge=judge,
    )
    trainer.responses = responses
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer, trainer._generate_and_score_completions(generation(questions[:1], size)), cases


def loss_and_gradients(trainer, batch):
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in trainer.model.parameters() if p.grad is not None]


def test_each_token_gets_the_advantage_of_its_process(model_folder, media, questions, tmp_path):
    blind = render("I see.", "So two.", "2")
    wrong = render("I see two.", "So three.", "3")
    _, batch, cases = scripted(model_folder, media, questions, tmp_path, [FULL, blind, wrong, FULL])
    totals = [(case.perception.total, case.reasoning.total) for case in cases]
    looked = [case.trace.perception_tokens for case in cases]
    assert [case.verdict.sufficient for case in cases] == [True, False, True, True]
    assert [case.accuracy for case in cases] == [1, 1, 0, 1]
    for row, case in enumerate(cases):
        tokens = batch["advantages"][row]
        assert tokens[: looked[row]].unique().tolist() == [pytest.approx(case.perception_advantage)]
        assert tokens[looked[row] : case.trace.completion_tokens].unique().tolist() == [
            pytest.approx(case.reasoning_advantage)
        ]
        assert (tokens[case.trace.completion_tokens :] == 0).all()
    for column in (0, 1):
        rewards = torch.tensor([total[column] for total in totals])
        expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        name = ("perception_advantage", "reasoning_advantage")[column]
        assert_close(torch.tensor([getattr(case, name) for case in cases]), expected)


@pytest.mark.parametrize("empty_perception", [False, True])
def test_with_one_reward_it_is_grpo(model_folder, media, questions, tmp_path, empty_perception):
    # Two rewards that are equal, or no perception tokens at all: TRL's outcome loss to 1e-6.
    ranges = ["rl.length_ranges={perception: [1,999], reasoning: [1,999]}", "rl.beta=0.04"]
    lost = render("I see.", "So three.", "3")
    responses = [FULL, lost, FULL, lost]
    if empty_perception:
        responses = [text.split("</observation> ")[1] for text in responses]
    trainer, batch, cases = scripted(model_folder, media, questions, tmp_path, responses, *ranges)
    if not empty_perception:
        assert all(case.perception.total == case.reasoning.total for case in cases)
    assert all(case.trace.perception_tokens == 0 for case in cases) == empty_perception
    ours = loss_and_gradients(trainer, batch)
    rewards = torch.tensor([case.reasoning.total for case in cases])
    outcome = (rewards - rewards.mean()) / (nanstd(rewards[None], dim=1) + 1e-4)
    theirs = loss_and_gradients(trainer, {**batch, "advantages": outcome})
    assert ours[0].abs() > 0 or outcome.abs().sum() > 0
    assert_close(ours[0], theirs[0], atol=1e-6, rtol=0)
    for mine, trls in zip(ours[1], theirs[1], strict=True):
        assert_close(mine, trls, atol=1e-6, rtol=1e-6)


def test_an_unknown_verdict_moves_nothing(model_folder, media, questions, tmp_path):
    fog = render("I see fog.", "So two.", "2")
    blind = render("I see.", "So two.", "2")
    responses = [FULL, fog, blind, FULL]
    trainer, batch, cases = scripted(
        model_folder, media, questions, tmp_path, responses, "rl.beta=0.0"
    )
    assert cases[1].verdict.sufficient is None and cases[1].perception.total is None
    known = torch.tensor([cases[row].perception.total for row in (0, 2, 3)])
    expected = (known - known.mean()) / (known.std() + 1e-4)
    found = torch.tensor([cases[row].perception_advantage for row in (0, 2, 3)])
    assert_close(found, expected)
    # Its reasoning reward equals that of the others: nothing of this rollout has a gradient.
    alone = {key: value[1:2] for key, value in batch.items() if key != "num_items_in_batch"}
    _, gradients = loss_and_gradients(trainer, {**alone, "num_items_in_batch": torch.tensor(1)})
    assert all((gradient == 0).all() for gradient in gradients)


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


def test_credit_outcome_ignores_the_judge(model_folder, media, questions, tmp_path):
    blind = render("I see.", "So two.", "2")
    wrong = render("I see two.", "So three.", "3")
    _, batch, cases = scripted(
        model_folder, media, questions, tmp_path, [FULL, blind, wrong, FULL], "rl.credit=outcome"
    )
    for row, case in enumerate(cases):
        assert case.perception_advantage == case.reasoning_advantage
        assert len(batch["advantages"][row, : case.trace.completion_tokens].unique()) == 1
    assert cases[0].reasoning_advantage == cases[1].reasoning_advantage


# ------------------------------------------------------------------------------- the whole stage


def train(out: str, model: str, media: str, *overrides: str) -> Path:
    """A short training, called with paths so that a process of its own can do it."""
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
        "rl.learning_rate=1e-4",
        "rl.scheduler=constant",
        *overrides,
    )
    return train_grpo(recipe, questions, model, out, judge=RuleJudge(), data_root=media, run="r")


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
    assert not {case.question.id for case in cases} & set(skipped), "left out, never swapped"


def test_it_learns(trained):
    rewards = [row["reward"] for row in read_lines(trained / "metrics.jsonl")]
    assert rewards[-1] > rewards[0] + 0.5, rewards


def test_killed_and_started_again_it_ends_like_an_uninterrupted_training(
    trained, taught_folder, media, tmp_path
):
    out = tmp_path / "rl"
    paths = ", ".join(repr(str(path)) for path in (out, taught_folder, media))
    kill_at_line("test_grpo", f"train({paths})", out / "metrics.jsonl", 3)
    (out / "checkpoints" / "checkpoint-99").mkdir()  # one that was cut off while it was written
    train(out, taught_folder, media)
    for name, kept in (("metrics.jsonl", ("step", "loss", "reward", "kl")), ("rollouts.jsonl", ())):
        whole, resumed = read_lines(trained / name), read_lines(out / name)
        assert len(whole) == len(resumed), "nothing lost, nothing twice"
        for before, after in zip(whole, resumed, strict=True):
            if kept:
                assert [after[key] for key in kept] == pytest.approx([before[key] for key in kept])
            else:
                assert after["trace"]["text"] == before["trace"]["text"]
    ends = [data.load_model(folder / "model").state_dict() for folder in (trained, out)]
    for name, weight in ends[0].items():
        assert_close(ends[1][name], weight, atol=1e-6, rtol=1e-5, msg=name)


def test_a_group_may_lie_on_two_processes(taught_folder, media, tmp_path):
    sizes = ["rl.steps=1", "rl.prompts_per_step=1", "rl.micro_batch=4"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    paths = [str(path) for path in (tmp_path / "rl", taught_folder, media)]
    done = subprocess.run(
        [*launch, __file__, *paths, *sizes], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "1 prompts × 8 rollouts = 8 rollouts, 1 update (1 micro-batches of 4 on 2" in done.stdout
    cases = [Case.model_validate(row) for row in read_lines(tmp_path / "rl" / "rollouts.jsonl")]
    assert [case.trace.rollout for case in cases] == list(range(8))
    rewards = torch.tensor([case.perception.total for case in cases])
    assert_close(
        torch.tensor([case.perception_advantage for case in cases]),
        (rewards - rewards.mean()) / (rewards.std() + 1e-4),
    )


def test_the_settings_of_large_models_take_the_same_path(model_folder, media, tmp_path):
    # bfloat16 autocast and gradient checkpointing, where prompts are not shared in the loss.
    model = train(
        tmp_path, model_folder, media, "models.dtype=bfloat16", "rl.steps=1", "rl.max_tokens=8"
    )
    assert data.load_model(model).dtype == torch.float32
    assert abs(read_lines(tmp_path / "metrics.jsonl")[0]["kl"]) < 1e-3


def test_the_plan_takes_each_question_once_a_pass_and_never_twice_a_step(questions):
    rl = small_recipe(Path("x"), "rl.steps=4", "rl.prompts_per_step=2").rl
    rows, skipped = plan_steps(questions, rl, 0, lambda question: None, "brief")
    assert len(rows) == 8 and not skipped
    steps = [rows[i : i + 2] for i in range(0, 8, 2)]
    assert all(a.id != b.id for a, b in steps)
    assert len({question.id for question in rows[:4]}) == 4
    again, _ = plan_steps(questions, rl, 0, lambda question: None, "brief")
    assert again == rows
    with pytest.raises(TrainingError, match="a step takes 2"):
        plan_steps(questions[:1], rl, 0, lambda question: None, "brief")


def test_settings_that_cannot_be_divided_are_an_error(model_folder, tmp_path):
    processor = data.load_processor(model_folder)
    recipe = small_recipe(
        model_folder, "rl.prompts_per_step=3", "rl.group_size=2", "rl.micro_batch=4"
    )
    with pytest.raises(TrainingError, match=r"change rl.micro_batch"):
        grpo_arguments(recipe, processor, tmp_path)


def test_process_credit_needs_a_judge(model_folder, media, questions, tmp_path):
    recipe = small_recipe(model_folder)
    with pytest.raises(TrainingError, match="needs a judge"):
        train_grpo(recipe, questions, model_folder, tmp_path, judge=None, data_root=media)


if __name__ == "__main__":
    train(*sys.argv[1:])
