"""One-step-off rollouts: what runs at the same time, with which weights, and what the loss is.

A given engine stands for the vLLM server; `tests/engines/test_vllm.py` trains with the real one.
"""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import pytest
from small import read_lines, small_recipe, stopped_at_line
from small_rl import FULL, RuleJudge

from p2r import data
from p2r.engines import Completion
from p2r.errors import EngineError, TrainingError, UserError
from p2r.records import Question
from p2r.runs.recipe import load_recipe
from p2r.template import render
from p2r.training import grpo, vllm_samplers
from p2r.training import step as pa_grpo
from p2r.training.grpo import train_grpo
from p2r.training.overlap import Overlap
from p2r.training.rl_checks import check_rl
from p2r.training.step import Step
from p2r.training.step_judge import StepJudge
from p2r.training.trainer import ProcessAwareGRPOTrainer

pytest_plugins = ["small_fixtures"]
PATIENCE = 60  # seconds; if the two threads do not run at the same time, the test fails after them
SAID = [FULL, render("I see.", "So three.", "3"), render("I see two.", "So three.", "3"), FULL]
LOGPROB = -0.7  # of every sampled token, as the engine says


# ------------------------------------------------------------------------------------- the ordering


def named(*names: str) -> list[Question]:
    ask = {"problem": "How many?", "problem_type": "numerical", "answer": "2"}
    return [Question(id=name, **ask) for name in names]


class Bench:
    """An `Overlap` on a trainer without a model; the test decides when a batch is sampled."""

    def __init__(self, monkeypatch, batches: int, updates: int = 1, fails: Exception | None = None):
        self.may_end, self.begun = threading.Event(), threading.Event()
        self.fails, self.sampled = fails, []
        monkeypatch.setattr(pa_grpo, "encode", lambda step, *_: None)
        tokenizer = SimpleNamespace(batch_decode=lambda rows, **_: [FULL] * len(rows))
        self.trainer = SimpleNamespace(
            settings=load_recipe("tiny1", [f"rl.updates={updates}"]).rl,
            processing_class=SimpleNamespace(tokenizer=tokenizer),
            vllm_generation=SimpleNamespace(sample=self.sample, sampling=None),
            judge=StepJudge(RuleJudge(), 60.0, 0),
            frames_of=None,
            style="brief",
            ends={2},
            new_step=lambda questions, number: Step(questions, 1, number=number),
            step=Step(named("q0"), 1, number=1),
        )
        self.overlap = Overlap(self.trainer, [named(f"q{n}") for n in range(batches)])

    def sample(self, step, prompts):
        self.sampled.append(step.number)
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        if self.fails:
            raise self.fails
        return [[1, 2]] * len(step.questions), [[LOGPROB] * 2] * len(step.questions)


def test_the_next_batch_is_sampled_and_judged_while_the_present_one_is_trained(monkeypatch):
    bench = Bench(monkeypatch, batches=3)
    overlap, trainer, first_judge = bench.overlap, bench.trainer, bench.trainer.judge
    assert overlap.take(["q0"]) is None, "nothing was started: the trainer samples this step"
    trainer.step.seconds |= {"decode": 1.0, "generate": 2.0}
    overlap.start()
    assert bench.begun.wait(PATIENCE)
    assert not trainer.vllm_generation.sampling.done(), "the trainer goes on meanwhile"
    assert trainer.step.seconds["rollout_wait"] == 3.0
    bench.may_end.set()
    trainer.step = overlap.take(["q1"])
    assert (trainer.step.number, trainer.step.texts) == (2, [FULL])
    assert trainer.step.sampling_log_probs == [[LOGPROB] * 2]
    assert 0 <= trainer.step.seconds["rollout_wait"] < PATIENCE
    assert trainer.judge is not first_judge and trainer.judge.answer().calls == 1
    overlap.start()
    trainer.step = overlap.take(["q2"])
    overlap.start()  # no batch is left
    assert overlap.take(["q3"]) is None and bench.sampled == [2, 3]


def test_a_batch_of_several_updates_is_sampled_once(monkeypatch):
    bench = Bench(monkeypatch, batches=2, updates=2)
    bench.may_end.set()
    bench.overlap.start()
    bench.trainer.step = bench.overlap.take(["q1"])
    assert bench.trainer.step.number == 3
    bench.overlap.start()
    assert bench.sampled == [3]


def test_an_error_of_the_thread_is_raised_where_its_rollouts_are_needed(monkeypatch):
    bench = Bench(monkeypatch, batches=2, fails=EngineError("the server is gone"))
    bench.may_end.set()
    bench.overlap.start()
    with pytest.raises(EngineError, match="the server is gone") as raised:
        bench.overlap.take(["q1"])
    assert raised.value.together, "so the finished steps are saved"


def test_rollouts_of_other_questions_are_refused(monkeypatch):
    bench = Bench(monkeypatch, batches=2)
    bench.may_end.set()
    bench.overlap.start()
    with pytest.raises(TrainingError, match=r"step 2 asks \['q7'\], but rollouts of \['q1'\]"):
        bench.overlap.take(["q7"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["rl.rollouts=transformers"], "rl.rollouts=transformers.*set rl.rollouts=vllm-server"),
        (["rl.rollouts=vllm"], "set rl.rollouts=vllm-server, or rl.overlap=false"),
        (["rl.dynamic_sampling=all"], "set rl.dynamic_sampling=none, or rl.overlap=false"),
        (["rl.credit=temporal"], "set another rl.credit, or rl.overlap=false"),
    ],
)
def test_settings_that_cannot_overlap_are_refused(settings, said):
    recipe = load_recipe("tiny1", ["rl.overlap=true", "rl.rollouts=vllm-server", *settings])
    with pytest.raises(UserError, match=said):
        check_rl(recipe)


# --------------------------------------------------------------------------------------- a training


def total(tensors) -> float:
    """Return a number that identifies the weights of a model."""
    return round(sum(float(tensor.detach().double().abs().sum()) for tensor in tensors), 4)


class Server:
    """Stands for vLLM at a server; remembers which weights were loaded for each request."""

    def __init__(self, recipe, model, trainer):
        self.trainer, self.engine = trainer, self
        self.processor = data.load_processor(model)
        self.weights, self.busy = None, 0
        self.sampled: dict[int, set[float]] = {}  # step -> the weights that sampled it
        self.trained: dict[int, float] = {}  # step -> the weights before its update
        self.losses: dict[int, list] = {}
        self.begun = {number: threading.Event() for number in range(1, 20)}

    def load(self, read):
        assert not self.busy, "new weights arrive while rollouts are sampled"
        self.weights = total(tensor for _, tensor in read())

    def reset_caches(self):
        assert not self.busy

    def sleep(self):
        return False

    def close(self):
        assert not self.busy

    def generate(self, requests, sampling):
        self.busy += 1
        tokenizer = self.processor.tokenizer
        for row, request in enumerate(requests):
            number = int(request.key.split("/")[0]) + 1
            self.sampled.setdefault(number, set()).add(self.weights)
            self.begun[number].set()
            prompt = data.prompt_ids(self.processor, request.question, request.frames, "brief")
            ids = [*tokenizer(SAID[row % 4])["input_ids"], tokenizer.eos_token_id]
            yield Completion(
                key=request.key, token_ids=ids, logprobs=[LOGPROB] * len(ids),
                prompt_tokens=len(prompt), tokens=len(ids),
            )  # fmt: skip
        self.busy -= 1


class Watched(ProcessAwareGRPOTrainer):
    """The trainer; a step ends only after the sampling of the next batch has begun."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        if self.overlap is None:  # the preflight
            return super().compute_loss(model, inputs, *args, **kwargs)
        server, number = self.vllm_generation.sampler, self.state.global_step + 1
        if number not in server.trained:
            server.trained[number] = total(model.parameters())
        following = self.step.number + self.settings.updates
        if following <= self.args.max_steps:
            assert server.begun[following].wait(PATIENCE), "the next batch is not sampled yet"
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        server.losses.setdefault(number, []).append((inputs, loss.item()))
        return loss


@contextmanager
def given_server():
    """Put the given engine and the watched trainer in place; yield the list of the servers."""
    servers = []

    def make(*arguments):
        servers.append(Server(*arguments))
        return servers[-1]

    with (
        mock.patch.object(vllm_samplers, "AtServer", make),
        mock.patch.object(grpo, "ProcessAwareGRPOTrainer", Watched),
    ):
        yield servers


def recipe_of(model, *settings):
    return small_recipe(
        model,
        "rl.overlap=true",
        "rl.rollouts=vllm-server",
        "rl.steps=4",
        "rl.save_steps=2",
        "rl.prompts_per_step=2",
        "rl.group_size=4",
        "rl.micro_batch=8",
        "rl.learning_rate=1e-3",
        "rl.max_tokens=60",
        *settings,
    )


def train(out: str, model: str, media: str) -> list[Server]:
    """Run a short training; the arguments are plain, so that `accelerate launch` can call it."""
    recipe = recipe_of(model, "rl.micro_batch=4")
    with given_server() as servers:
        train_grpo(recipe, named(*"abcde"), model, out, judge=RuleJudge(), data_root=media)
    return servers


@pytest.mark.slow
def test_batches_are_sampled_with_the_weights_of_one_batch_before(
    model_folder, media, questions, tmp_path
):
    """With several updates per batch, and a validation that samples with newer weights."""
    settings = ["rl.updates=2", "rl.steps=6", "rl.validate_every=4", "rl.validate_questions=1"]
    recipe, out = recipe_of(model_folder, *settings, "rl.preflight=1"), tmp_path / "rl"
    with given_server() as servers:
        train_grpo(recipe, questions, model_folder, out, judge=RuleJudge(), data_root=media)
    before, sampled = servers[0].trained, servers[0].sampled
    assert len(set(before.values())) == 6, "each update changes the weights"
    assert sampled[1] == sampled[3] == {before[1]}
    # Requests of the validation after step 4 have the same numbers as those of step 5.
    assert sampled[5] == {before[3], before[5]}
    assert max(sampled) == 7, "after step 6 only the validation samples"
    rows = read_lines(out / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 7))
    for row in rows[::2]:
        assert row["time/rollout_wait"] >= 0
        assert 0 < row["sampling/importance_sampling_ratio/mean"] <= 3


@pytest.mark.slow
def test_the_loss_has_truncated_importance_weights(model_folder, media, questions, tmp_path):
    recipe = recipe_of(model_folder, "rl.steps=2", "rl.beta=0.1")
    with given_server() as servers:
        train_grpo(
            recipe, questions, model_folder, tmp_path / "rl", judge=RuleJudge(), data_root=media
        )
    ((batch, loss),) = servers[0].losses[2]
    by_hand, weights = [], set()
    for row, mask in enumerate(batch["completion_mask"].tolist()):
        old, ref, advantages = (
            batch[name][row].tolist()
            for name in ("old_per_token_logps", "ref_per_token_logps", "advantages")
        )
        tokens = []
        for place in range(sum(mask)):
            weight = min(math.exp(old[place] - LOGPROB), 3.0)
            weights.add(weight)
            ahead = ref[place] - old[place]  # the policy has not changed since: its ratio is 1
            kl = math.exp(ahead) - ahead - 1
            tokens.append(-weight * advantages[place] + 0.1 * kl)
        by_hand.append(sum(tokens) / len(tokens))
    assert loss == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-5)
    assert min(weights) < 1 and any(abs(a) > 0.1 for a in batch["advantages"].flatten().tolist())


@pytest.mark.slow
def test_a_resumed_run_samples_its_first_step_again(model_folder, media, questions, tmp_path):
    recipe, out = recipe_of(model_folder), tmp_path / "rl"

    def start():
        train_grpo(recipe, questions, model_folder, out, judge=RuleJudge(), data_root=media)

    with given_server() as servers:
        with stopped_at_line(3):
            start()
        start()
    first, second = servers
    assert second.sampled.keys() == {3, 4}
    # Steps after the checkpoint: the first has its weights, the next is one step off again.
    assert second.sampled[3] == second.sampled[4] == {second.trained[3]}
    assert first.sampled[3] == {first.trained[2]}
    assert [row["step"] for row in read_lines(out / "metrics.jsonl")] == [1, 2, 3, 4]
    steps = [row["trace"]["step"] for row in read_lines(out / "rollouts.jsonl")]
    assert steps == sorted([1, 2, 3, 4] * 8)
