"""One-step-off rollouts (`rl.overlap`): sample the next batch while the present batch is trained.

A step of the training does this:

1. Wait for the rollouts of its batch. A thread has sampled them during the step before.
2. Load the present weights into the vLLM server, which is idle now.
3. Start the thread for the next batch.
4. Score and train the batch.

So the rollouts come from weights that are one batch older than the weights they train. The loss
corrects this. TRL weights each token with min(π / π_sampling, 3), where π is the policy before the
batch is trained and π_sampling has the log-probs that vLLM returned. This is truncated importance
sampling (https://fengyao.notion.site/off-policy-rl). The ratio of eq. (7) starts from π, so
clipping does not depend on the age of the rollouts (decoupled PPO, arXiv 2110.00641; AReaL, arXiv
2505.24298). verl's one-step-off trainer has the same order of sampling and training.

The thread also sends its observations to the judge. It exchanges nothing with other workers: only
the main threads of the workers do so, in the same order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from p2r.errors import TrainingError
from p2r.records import Question
from p2r.training import step as pa_grpo
from p2r.training.observation_watch import listen
from p2r.training.stage import raise_together
from p2r.training.step import Step
from p2r.training.step_judge import StepJudge


@dataclass(frozen=True)
class Ahead:
    """A step whose rollouts are being sampled, and the judge that is asked about them."""

    step: Step
    judge: StepJudge
    asked: list[str]  # the planned questions, before unreadable ones are replaced
    done: Future[None] = field(default_factory=Future)


class Overlap:
    """Samples the batches of a trainer one step ahead.

    `batches` are the questions of this worker's rows in every batch of the training. A batch is
    used for `rl.updates` steps. The first batch after a start or a resume is not sampled ahead, and
    after the last batch nothing is sampled.
    """

    def __init__(self, trainer: Any, batches: Sequence[Sequence[Question]]) -> None:
        self.trainer, self.batches = trainer, batches
        # A tokenizer that two threads use at once raises errors, so the thread has its own.
        self.processor = deepcopy(trainer.processing_class)
        self.ahead: Ahead | None = None

    def take(self, asked: Sequence[str]) -> Step | None:
        """Wait for the rollouts of the next step and return that step; None if nothing was started.

        `asked` are the ids of the questions that the step must ask. All workers must call this
        together. Raises the error of the thread on all workers.
        """
        ahead, self.ahead = self.ahead, None
        if ahead is None:
            return None
        begun = time.perf_counter()
        error = ahead.done.exception()  # waits
        assert error is None or isinstance(error, Exception)
        raise_together(error)
        if ahead.asked != list(asked):
            raise TrainingError(
                f"step {ahead.step.number} asks {list(asked)[:3]}, but rollouts of "
                f"{ahead.asked[:3]} were sampled ahead: start again with rl.overlap=false"
            )
        ahead.step.seconds["rollout_wait"] = time.perf_counter() - begun
        ahead.step.in_background = False
        self.trainer.judge = ahead.judge
        return ahead.step

    def start(self) -> None:
        """Start to sample the batch after the trainer's step; the weights must be loaded.

        All workers must call this together.
        """
        trainer, updates = self.trainer, self.trainer.settings.updates
        now = trainer.step.seconds
        now.setdefault("rollout_wait", sum(now.values()))  # it was not sampled ahead
        number = trainer.step.number + updates
        if (number - 1) // updates >= len(self.batches):
            return
        questions = list(self.batches[(number - 1) // updates])
        asked = [question.id for question in questions]
        step = trainer.new_step(questions, number)
        trainer.step.seconds["decode"] += step.seconds.pop("decode", 0.0)  # it waits, not `step`
        step.in_background = True
        self.ahead = ahead = Ahead(step, trainer.judge.another(), asked)
        # New weights are not loaded before the rollouts are complete.
        trainer.vllm_generation.sampling = ahead.done
        # A daemon thread: a server that does not answer does not keep Python from exiting.
        threading.Thread(target=self._work, args=(ahead,), name="rollouts", daemon=True).start()

    def _work(self, ahead: Ahead) -> None:
        trainer, step = self.trainer, ahead.step
        try:
            listen(step, ahead.judge)
            pa_grpo.sample(
                step,
                self.processor,
                trainer.frames_of,
                trainer.style,
                partial(trainer.vllm_generation.sample, step),
                trainer.ends,
            )
            ahead.judge.ask(step.questions, step.texts, together=False)
        except BaseException as error:  # `take` raises it
            ahead.done.set_exception(error)
        else:
            ahead.done.set_result(None)
