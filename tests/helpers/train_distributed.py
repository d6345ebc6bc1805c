"""Run several trainings in one start of `accelerate launch`, as a test asks.

    accelerate launch --config_file CONFIG tests/helpers/train_distributed.py CALLS.json

The file holds calls: module, function and arguments of each. `run_job` runs SFT and then RL. A job
names the model, media, questions, the out folder and recipe settings (see `Job`). RL takes its
responses from a list, so that any number of workers trains on the same rollouts. It still samples
with the real `generate` first, for a different number of tokens on each worker.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from unittest import mock

import p2r.training  # noqa: F401  # isort: skip  (first: it applies the patches that TRL needs)

import torch
from accelerate import DistributedType, PartialState
from small import small_recipe
from small_rl import FULL, RuleJudge
from transformers import TrainerCallback

from p2r.errors import TrainingError
from p2r.records import Case, Question, Trace
from p2r.runs.recipe import Recipe
from p2r.template import render
from p2r.training import grpo, sft, tuning
from p2r.training.sft import train_sft
from p2r.training.stage import workers
from p2r.training.trainer import ProcessAwareGRPOTrainer

SAID = (FULL, render("I see.", "So two.", "2"), render("I see two.", "So three.", "3"), "2")
WRONG = 2  # in SAID


@dataclass
class Job:
    """What to train: paths as text, `sft` names its questions by id, one trace each."""

    model: str
    media: str
    questions: str  # a file of questions, JSON lines
    out: str
    settings: list[str] = field(default_factory=list)
    sft: list[str] = field(default_factory=list)
    many: list[str] = field(default_factory=list)  # questions of another SFT run
    rl: list[str] = field(default_factory=list)
    adapters: list[str] = field(default_factory=list)  # settings: train once more, into `lora`
    recompute: bool = False  # with gradient checkpointing, as every bf16 recipe
    kill_at: int = 0  # SIGKILL the last worker at the end of this RL step
    break_rank: int = -1  # at last, start RL again with one wrong weight in this worker's reference

    def run(self) -> None:
        """Train; the main worker writes `done.json` beside the stages."""
        lines = Path(self.questions).read_text().splitlines()
        asked = {q.id: q for q in map(Question.model_validate_json, lines)}
        out, seconds = Path(self.out), {"start": time.time()}
        recipe = small_recipe(Path(self.model), *self.settings)
        error = ""
        with ExitStack() as changes:
            changes.enter_context(scripted_responses())
            if self.recompute:
                changes.enter_context(gradient_checkpointing())
            if self.many:
                whole = small_recipe(Path(self.model), "sft.batch_size=8")
                whole.sft.max_steps = -1  # one pass over all
                cases = [case_of(asked[name]) for name in self.many]
                train_sft(whole, cases, out / "many", data_root=self.media)
                seconds["many"] = time.time()
            if self.kill_at:
                changes.enter_context(killing_at(self.kill_at))
            start = self.train(recipe, asked, out)
            seconds["sft and rl"] = time.time()
            if self.adapters:
                settings = [*self.settings, *self.adapters]
                self.train(small_recipe(Path(self.model), *settings), asked, out / "lora")
                seconds["lora"] = time.time()
            if self.break_rank >= 0:
                changes.enter_context(broken_reference(self.break_rank))
                try:
                    self.train_rl(recipe, asked, start, out / "broken")
                except TrainingError as raised:
                    error = str(raised)
                seconds["broken"] = time.time()
        if workers().is_main_process:
            kind = str(workers().distributed_type)
            found = {"workers": workers().num_processes, "kind": kind, "error": error}
            found["seconds"] = seconds
            if torch.distributed.is_initialized():
                backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
                found["timeout"] = backend.options._timeout.total_seconds()
            (out / "done.json").write_text(json.dumps(found))

    def train(self, recipe: Recipe, asked: dict[str, Question], out: Path) -> Path:
        """Train SFT, then RL, below `out`; return the SFT model."""
        cases = [case_of(asked[name]) for name in self.sft]
        start = train_sft(recipe, cases, out / "sft", data_root=self.media)
        self.train_rl(recipe, asked, start, out / "rl")
        return start

    def train_rl(self, recipe: Recipe, asked: dict[str, Question], start: Path, out: Path) -> None:
        questions = [asked[name] for name in self.rl]
        grpo.train_grpo(recipe, questions, start, out, judge=RuleJudge(), data_root=self.media)


def run_job(job: dict) -> None:
    """Train as a `Job` says."""
    Job(**job).run()


def case_of(question: Question) -> Case:
    """Return the trace that SFT learns for a question."""
    trace = {"observation": f"I see {question.id}.", "think": "So two.", "answer": "2"}
    return Case(question=question, trace=Trace(question_id=question.id, text="", **trace))


def scripted_responses():
    """Let RL sample for real, then use `SAID`: response i to rollout i of a group.

    The second group of T-GRPO gets a wrong response.
    """
    real = ProcessAwareGRPOTrainer._generate_single_turn

    def generate(self, *arguments):
        longest = self.generation_config.max_new_tokens
        self.generation_config.max_new_tokens = 3 + 4 * self.accelerator.process_index
        real(self, *arguments)
        self.generation_config.max_new_tokens = longest
        step = self.step
        rows = range(step.first_row, step.first_row + len(step.questions))
        said = [SAID[WRONG if step.shuffled else row % step.group_size] for row in rows]
        end = self._tokenizer.eos_token_id
        return [[*ids, end] for ids in self._tokenizer(said)["input_ids"]], None

    return mock.patch.object(ProcessAwareGRPOTrainer, "_generate_single_turn", generate)


def gradient_checkpointing() -> ExitStack:
    """Train with gradient checkpointing. In a recipe it comes with bfloat16."""
    arguments = tuning.shared_arguments

    def recomputing(*given, **more):
        return arguments(*given, **more) | {"gradient_checkpointing": True}

    changes = ExitStack()
    for module in (sft, grpo):
        changes.enter_context(mock.patch.object(module, "shared_arguments", recomputing))
    return changes


def broken_reference(rank: int):
    """Change one weight of every reference model that is made, on one worker."""
    made = ProcessAwareGRPOTrainer.__init__

    def make(self, *arguments, **settings):
        made(self, *arguments, **settings)
        if self.accelerator.process_index == rank:
            weights = dict(self.accelerator.unwrap_model(self.ref_model).named_parameters())
            with torch.no_grad():
                weights["model.language_model.layers.0.mlp.up_proj.weight"][0] += 1

    return mock.patch.object(ProcessAwareGRPOTrainer, "__init__", make)


def killing_at(step: int):
    """SIGKILL the last worker when an RL step has ended and its checkpoint is saved."""

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            state_of = workers()
            if state.global_step == step and state_of.process_index == state_of.num_processes - 1:
                os.kill(os.getpid(), signal.SIGKILL)

    known = grpo.trackers
    return mock.patch.object(grpo, "trackers", lambda *given: [*known(*given), Kill()])


def use_fsdp_on_cpu() -> None:
    """Let accelerate 1.15 use FSDP on a CPU. Without a GPU it ignores FSDP and runs DDP."""
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)


def use_gloo_alone() -> None:
    """Let DeepSpeed send everything through gloo. Else it compiles an operator first (minutes)."""
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__ = {}


def main(file: str) -> None:
    """Make the calls of a file in this worker."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        use_gloo_alone()
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        use_fsdp_on_cpu()
    sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
    gc.collect()
    gc.freeze()  # accelerate calls `gc.collect` in each training: it skips the imported modules
    for module, function, given in json.loads(Path(file).read_text()):
        getattr(import_module(module), function)(*given)


# ---- `accelerate launch` without new interpreters


class Worker:
    """A forked worker with the methods of `subprocess.Popen` that torch calls."""

    def __init__(self, command: tuple[str, ...], environment: dict[str, str]) -> None:
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=self.run, args=(command[-1], environment))
        self.process.start()
        self.pid = self.process.pid

    @staticmethod
    def run(file: str, environment: dict[str, str]) -> None:
        os.setsid()
        os.environ.update(environment)
        main(file)

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return self.process.exitcode


def launch_in_forks(arguments: list[str]) -> None:
    """Run `accelerate launch`, with workers that are forks of this OS process.

    It reads its config, sets the environment of the workers and watches them as usual.
    """
    from accelerate.commands import launch
    from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler

    def fork(self, command: tuple[str, ...], environment: dict[str, str]) -> Worker:
        return Worker(command, environment)

    with (
        mock.patch.object(SubprocessHandler, "_popen", fork),
        mock.patch.object(sys, "argv", ["accelerate-launch", *arguments]),
    ):
        launch.main()


if __name__ == "__main__":
    main(sys.argv[1])
