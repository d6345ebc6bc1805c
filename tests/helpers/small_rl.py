"""Shared by the RL tests: a judge by rule, and a trainer with given responses."""

from __future__ import annotations

from datasets import Dataset
from small import VIDEO, small_recipe

from p2r import data
from p2r.records import Verdict
from p2r.template import render
from p2r.training.grpo import grpo_arguments
from p2r.training.trainer import ProcessAwareGRPOTrainer
from p2r.video import FrameCache

FULL = render("I see two.", "So two.", "2")


class RuleJudge:
    """An observation is sufficient if it says "two", and unknown if it says "fog"."""

    def __init__(self):
        self.asked = []

    def judge(self, questions, observations):
        self.asked += observations
        return [Verdict(sufficient=None if "fog" in o else "two" in o) for o in observations]


class SilentJudge:
    """A judge without a connection."""

    def judge(self, questions, observations):
        return [Verdict(sufficient=None, rationale="no connection\nto the judge")] * len(questions)


class WithResponses:
    """A mixin for trainers: takes `responses` instead of sampling; everything else is real.

    A text gets an end token. Token ids are used without a change, so a response can be truncated.
    """

    responses: list[str | list[int]]

    def _generate_single_turn(self, prompt_ids, images, fields, num_generations):
        ids = [
            [*self._tokenizer(said)["input_ids"], self._tokenizer.eos_token_id]
            if isinstance(said, str)
            else said
            for said in self.responses
        ]
        return ids, None


class Scripted(WithResponses, ProcessAwareGRPOTrainer):
    """The process-aware trainer with given responses."""


def make_trainer(kind, model, media, questions, tmp_path, *overrides, judge=None):
    """Return a trainer with one step on all `questions`, and the list that gets its cases."""
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


def scripted(model, media, questions, tmp_path, responses, *overrides, judge=None):
    """Return a trainer that gave `responses` to the first question, their batch and their cases."""
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
    batch = trainer._generate_and_score_completions(generation(questions[:1], size))
    # Tests move the policy away from the reference, which a run refuses before its first update.
    trainer.state.global_step = 1
    return trainer, batch, cases


def loss_and_gradients(trainer, batch):
    """Return the loss of a batch and the gradients of all weights."""
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in trainer.model.parameters() if p.grad is not None]
