"""RL rollouts by vLLM with native video, inside the trainer or at a server of `p2r serve`.

TRL 1.16 passes only images to vLLM, and it does not reset vLLM's encoder cache after an update.
Here the engines of `p2r.engines` sample the rollouts, with the same prompts, frames, positions and
banned tokens as everywhere else. After every optimiser step they load the new weights and clear all
caches.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import Any

from accelerate import DistributedType
from peft import PeftModel
from trl.distributed import DistributedBackend
from trl.generation.vllm_generation import VLLMGeneration

from p2r.engines import Completion, Request, Sampling
from p2r.errors import TrainingError
from p2r.runs.recipe import Recipe
from p2r.training.stage import together
from p2r.training.step import Hear, Prompt, Step
from p2r.training.tuning import merged_weights
from p2r.training.vllm_samplers import Sampler, Weights, make_sampler

log = logging.getLogger(__name__)


def attach_vllm(trainer: Any, recipe: Recipe) -> None:
    """Let vLLM sample the rollouts of a trainer; `recipe.rl.rollouts` selects where vLLM runs.

    TRL then corrects the difference between the probabilities of vLLM and the trainer. The
    correction is a truncated importance weight per token. (TRL's default drops whole responses.)
    Raises `EngineError`.
    """
    trainer.vllm_generation = VllmRollouts(trainer, recipe)
    trainer.use_vllm = True
    trainer.vllm_mode = "colocate" if recipe.rl.rollouts == "vllm" else "server"
    trainer.vllm_importance_sampling_mode = "token_truncate"
    trainer._last_loaded_step = -1


class VllmRollouts(VLLMGeneration):
    """Replaces TRL's vLLM generation.

    TRL's own code still gathers the weights from FSDP and DeepSpeed.
    """

    ATTEMPTS = 5  # for each rollout
    PAUSE = 2.0  # seconds before the second attempt; doubled for each further one

    def __init__(self, trainer: Any, recipe: Recipe) -> None:
        self.trainer, self.recipe = trainer, recipe
        self.model, self.accelerator = trainer.model, trainer.accelerator
        self._dist = DistributedBackend(self.accelerator)
        self.sampler: Sampler = make_sampler(recipe, self.model.name_or_path, trainer)
        self.sampling: Future[None] | None = None  # in a thread, see `p2r.training.overlap`

    def sync_weights(self) -> None:
        """Serves `GRPOTrainer`: load the trainer's weights into vLLM and clear its caches.

        Waits for the rollouts that are being sampled with the previous weights. Raises the error
        of a worker on all workers.
        """
        if self.sampling is not None:
            wait([self.sampling])
            self.accelerator.wait_for_everyone()  # a worker may still sample at the same server
        with together():
            self.sampler.load(self._iter_named_params)
            self.sampler.reset_caches()

    def _iter_named_params(self) -> Weights:
        """Yield every weight with the name that vLLM expects. All workers must read all weights.

        TRL merges adapters into the weights in place, see `merged_weights`.
        """
        if not isinstance(self.model, PeftModel):
            yield from super()._iter_named_params()
            return
        for name, value in merged_weights(self.model, self._dist.gather_params):
            yield self._fix_param_name_to_vllm(name), value

    def rest(self) -> None:
        """Let vLLM free its memory until the next `sync_weights`, if `vllm.sleep` is set."""
        if self.sampler.sleep():
            self.trainer._last_loaded_step = -1  # TRL loads the weights before it samples again

    def close(self) -> None:
        """Stop a vLLM that the trainer has started, so that the next stage can start its own.

        vLLM also ends the process group of torch. If the trainer uses one (several workers, or
        DeepSpeed), vLLM runs until the OS process ends.
        """
        if self.accelerator.distributed_type == DistributedType.NO:
            self.sampler.close()

    def generate(
        self, prompts: list[list[int]], images: Any, num_generations: int, profiler: Any = None
    ) -> tuple[list, list, list, None]:
        """Serves `GRPOTrainer._generate_single_turn`: sample one completion for each row.

        Returns prompt ids, completion ids and the log-probs of the sampled tokens, (rows, tokens,
        1). Raises `TrainingError` on all workers if a rollout fails every time.
        """
        with together():
            lengths = [len(prompt) for prompt in prompts]
            ids, logprobs = self._sample(self.trainer.step, lengths, self.trainer.model.training)
        return prompts, ids, [[[value] for value in row] for row in logprobs], None

    def sample(
        self, step: Step, prompts: Sequence[Prompt]
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Return completion ids and log-probs for the rows of a training step.

        Any thread may call this, because it exchanges nothing with other workers.
        """
        return self._sample(step, [len(prompt.ids) for prompt in prompts])

    def _sample(
        self, step: Step, lengths: Sequence[int], training: bool = True
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Sample one completion for each row; `lengths` are the tokens of its prompt.

        A rollout that fails is asked for again, alone.
        """
        rl = self.recipe.rl
        # The seed depends on step and row, so a resumed run samples the same completions.
        place = f"{step.number - 1}/{self.accelerator.process_index}"
        if not training:
            place = f"eval/{place}"
        if step.shuffled:
            place = f"shuffled/{place}"
        requests = [
            Request(f"{place}/{row}", question, frames)
            for row, (question, frames) in enumerate(zip(step.questions, step.frames, strict=True))
        ]
        sampling = Sampling(rl.temperature, rl.top_p, rl.max_tokens, self.recipe.seed)
        completions = self._complete(requests, sampling, step.hear)
        for completion, length in zip(completions, lengths, strict=True):
            if completion.prompt_tokens != length:
                raise TrainingError(
                    f"vLLM encoded a prompt to {completion.prompt_tokens} tokens, the trainer to "
                    f"{length}: use the same model and processor files for both"
                )
        ids = [completion.token_ids or [] for completion in completions]
        return ids, [list(completion.logprobs or ()) for completion in completions]

    def _complete(
        self, requests: list[Request], sampling: Sampling, hear: Hear | None = None
    ) -> list[Completion]:
        """Return a completion for each request; ask again for those that fail.

        `hear` gets each response as soon as it is complete, so that the judge can begin with it.
        An engine that has died is an error at once: a new one would have the start model's weights.
        """
        found: dict[str, Completion] = {}
        rows = {request.key: row for row, request in enumerate(requests)}
        left = requests
        for attempt in range(self.ATTEMPTS):
            if attempt:
                time.sleep(self.PAUSE * 2 ** (attempt - 1))
            for completion in self.sampler.engine.generate(left, sampling):
                found[completion.key] = completion
                if hear is not None and completion.error is None:
                    hear(rows[completion.key], completion.text)
            left = [request for request in left if found[request.key].error is not None]
            if not left:
                return [found[request.key] for request in requests]
            log.warning(
                "vLLM failed on %d of %d rollouts (attempt %d of %d): %s",
                len(left),
                len(requests),
                attempt + 1,
                self.ATTEMPTS,
                found[left[0].key].error,
            )
        failed = found[left[0].key]
        raise TrainingError(
            f"vLLM failed on rollout {failed.key} {self.ATTEMPTS} times: {failed.error}. Repair it "
            "and start again: training resumes with this step"
        )
