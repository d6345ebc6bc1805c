"""An adapter: lets TRL's GRPO training loop run the PA-GRPO step of `p2r.training.step`.

TRL 1.16 keeps the loop, sampling, the reference model, accumulation and the work across GPUs. On
its own it samples with a video but computes log-probs without it, and it knows one advantage per
response. All state of a step is in `trainer.step`; the docstring of each method names the call of
TRL it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from p2r import data
from p2r.errors import TrainingError
from p2r.judges import Judge
from p2r.records import Case, Question
from p2r.rewards import CRITICS, rewards_in_use
from p2r.runs.recipe import RlSettings
from p2r.training import step as pa_grpo
from p2r.training import temporal
from p2r.training.critic import Critic, assess_step
from p2r.training.dynamic_sampling import replace_collapsed
from p2r.training.log_probs import Rows, read_rows
from p2r.training.observation_watch import ObservationWatch, listen
from p2r.training.overlap import Overlap
from p2r.training.packing import accept_packed_rows
from p2r.training.perception_loss import (
    has_media,
    mask_vision,
    perception_losses,
    read_responses,
)
from p2r.training.reference_check import check_reference
from p2r.training.shared_prompts import Prompts, SampledRows, share_prompts, sharing
from p2r.training.stage import CHECKPOINT, ExactResume, checkpoint_on_error
from p2r.training.step import FramesOf, Prompt, Step
from p2r.training.step_judge import JudgeWatch, StepJudge
from p2r.training.step_metrics import (
    loss_metrics,
    process_means,
    process_sums,
    rollout_metrics,
)
from p2r.training.substitutes import Substitutes
from p2r.training.vision_once import VisionOnce
from p2r.training.vision_pass import unify_vision_passes
from p2r.training.vision_windows import batch_windows


class ProcessAwareGRPOTrainer(ExactResume, GRPOTrainer):
    """TRL's GRPO trainer for rewards per process, on video, image and text questions in one batch.

    `questions` maps ids to questions. A row of the data set names its question in the column
    `question`. `frames_of` returns the frames of a question (None: text only). `on_rollouts`
    receives the cases of every training step. All other arguments go to `GRPOTrainer`. `model` is a
    path or hub id, so that the reference of the KL term is that same model.
    """

    _buffered_inputs: list[dict[str, Any]] | None  # of TRL: the micro-batches of a batch

    def __init__(
        self,
        model: str,
        *,
        questions: Mapping[str, Question],
        frames_of: FramesOf,
        judge: Judge | None,
        settings: RlSettings,
        style: str,
        on_rollouts: Callable[[list[Case]], None],
        trace_fields: Mapping[str, Any],
        **arguments: Any,
    ) -> None:
        self.questions = questions
        self.frames_of = frames_of
        self.judge = StepJudge(judge, settings.judge_timeout, settings.judge_retries)
        self.settings = settings
        self.style = style
        self.on_rollouts = on_rollouts
        self.trace_fields = dict(trace_fields)
        judged = "perception" in rewards_in_use(settings.credit, settings.rewards)
        self.watch = JudgeWatch(settings.max_unknown if judged else 1.0)
        self.step = Step([], group_size=1)
        self._shuffled: list[float] = []  # of the step: accuracies of the second group of T-GRPO
        if "question" not in arguments["train_dataset"].column_names:
            raise TrainingError(
                "the data set has no column 'question': add one with the id of the question that "
                "each row asks"
            )
        super().__init__(model, reward_funcs=[self.perception, self.reasoning], **arguments)
        self.vision_once = VisionOnce(self.accelerator)
        self.substitutes: Substitutes | None = None  # of unreadable questions
        self.overlap: Overlap | None = None  # samples one step ahead
        self.ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}  # of a complete response
        self.rollout_func = self.roll_out  # set here: as an argument it makes TRL print a warning
        for each in (self.model, self.ref_model):
            if each is not None:
                model = self.accelerator.unwrap_model(each)
                batch_windows(model)
                if self.accelerator.num_processes > 1:
                    unify_vision_passes(model)
                share_prompts(model)
                accept_packed_rows(model)
        self.critic: Critic | None = None
        if settings.credit in CRITICS:
            width = self.model.config.get_text_config().hidden_size
            self.critic = Critic(width, settings, self.accelerator, self.args.seed)
        if self.is_fsdp_enabled:
            # `generate` of transformers reads this. Then a worker that has sampled its last token
            # takes part in the forward passes of the others until all are done.
            self.model._is_fsdp_managed_module = True

    # ------------------------------------------------------------------------ sampling and scoring

    def _prepare_inputs(self, generation_batch: list[dict[str, Any]]) -> dict[str, Any]:
        """Serves `Trainer.training_step` and `prediction_step`: return the next micro-batch.

        As TRL's own method, but without its shuffling, so that the rollouts of a group stay in one
        micro-batch and share their prompt. All micro-batches belong to one update, so their order
        does not matter.
        """
        if not self.model.training:
            return self._generate_and_score_completions(generation_batch)
        count = self.args.steps_per_generation
        if self._step % (count * self.num_iterations) == 0 or self._buffered_inputs is None:
            self._buffered_inputs = None  # frees the memory of the batch before
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(batch, count)
        return self._buffered_inputs[self._step % count]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Serves `GRPOTrainer._prepare_inputs`, which asks for a new batch once per step.

        TRL's own method calls, in this order: `roll_out`, the log-probs of the old policy and the
        reference, `perception` and `reasoning`. Its batch then gets the inputs of our loss.
        """
        if not self.model.training:
            return self._run_step(inputs)
        with checkpoint_on_error(self):
            return self._run_step(inputs)

    def _run_step(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        training = self.model.training
        asked = [row["question"] for row in inputs]
        taken = self.overlap.take(asked) if training and self.overlap is not None else None
        self.step = step = taken or self.new_step(
            [self.questions[name] for name in asked], self.state.global_step + 1
        )
        batch = super()._generate_and_score_completions(inputs)
        if self.settings.credit in CRITICS:
            assess_step(self, batch)
        else:
            pa_grpo.advantages(step, self.settings)
        batch |= pa_grpo.loss_inputs(step, batch["completion_mask"], self.settings)
        if self.settings.perception_loss:
            seed, share = f"{self.args.seed}/{step.number}", self.settings.mask_ratio
            batch["masked_vision"] = mask_vision(
                step.vision, step.questions, self.processing_class, share, seed
            )
        metrics = rollout_metrics(step.cases, step.rewards.numpy(), step.group_size)
        calls = sum(gather_object([step.judge_calls]))
        self._log(metrics | step.metrics | {"judge/calls": calls})
        if training:
            if self.accelerator.is_main_process:
                self.on_rollouts(step.cases)
            self.watch.check(step.cases)
            if self.settings.credit in CRITICS:  # last: the head must not learn from a failed step
                assert self.critic is not None
                self._log({"critic/loss": self.critic.learn()})
        return batch

    def new_step(self, questions: list[Question], number: int) -> Step:
        """Return a step without rollouts, with unreadable questions replaced.

        All workers must call this together.
        """
        step = Step(
            questions,
            self.num_generations if self.model.training else self.num_generations_eval,
            number=number,
            first_row=self.accelerator.process_index * len(questions),
            trace_fields=self.trace_fields,
        )
        if self.substitutes is not None:
            with step.timed("decode"):  # a clip that is not decoded yet is decoded here
                step.questions = self.substitutes.fill(
                    step.questions, step.number, step.first_row, step.group_size
                )
        return step

    def roll_out(self, prompts: list, trainer: GRPOTrainer) -> dict[str, Any]:
        """Serves `GRPOTrainer._generate`, as its public hook `rollout_func`: sample, then judge.

        The judge works in the background while TRL goes on to the log-probs. With `rl.overlap`,
        most steps are sampled already. TRL has loaded the present weights into vLLM, so the next
        batch can start.
        """
        step = self.step
        if not step.completions:
            listen(step, self.judge)
            self.sample(step, self.frames_of)
            pa_grpo.judge(step, self.judge)
        if self.overlap is not None and self.model.training:
            self.overlap.start()
        if self.settings.dynamic_sampling != "none" and self.substitutes is not None:
            replace_collapsed(self)
        if self.settings.credit == "temporal":
            self._shuffled = temporal.sample_shuffled(self)
        if self.use_vllm:
            self.vllm_generation.rest()
        return {
            "prompt_ids": [prompt.ids for prompt in step.prompts],
            "completion_ids": step.completions,
            "logprobs": step.sampling_log_probs,
        }

    def sample(self, step: Step, frames_of: FramesOf) -> None:
        """Sample the rollouts of a step, which must be the trainer's."""
        pa_grpo.sample(
            step, self.processing_class, frames_of, self.style, self._sample_from, self.ends
        )

    def _sample_from(self, prompts: list[Prompt]) -> tuple[list[list[int]], Any]:
        """Let TRL sample a completion for each prompt, with transformers or vLLM."""
        ids = [prompt.ids for prompt in prompts]
        fields = {"mm_token_type_ids": [prompt.types for prompt in prompts]}
        vision = self.step.vision
        # Positions need the grid of every row. Pixels are passed once per prompt, by `sharing`.
        grids = [key for key in data.VISION_KEYS if not key.startswith("pixel_values")]
        fields |= data.to_model_inputs({key: [row[key] for row in vision] for key in grids})
        seen = self.vision_once.see(self.model, vision, trained=True)
        shared = Prompts.of(seen, self.accelerator.device)
        hear = None if self.use_vllm else self.step.hear  # vLLM tells it itself
        watch = ObservationWatch(self._tokenizer, len(ids), hear).see if hear else None
        rows = SampledRows(shared, self.eos_token_ids, watch)
        with sharing(self.accelerator.unwrap_model(self.model), rows):
            return self._generate_single_turn(ids, None, fields, self.step.group_size)

    def perception(self, **columns: Any) -> list[float | None]:
        """Serves `GRPOTrainer._calculate_rewards` as its first reward: score, then return R_P."""
        if not self.step.cases:  # dynamic sampling has scored the step already
            self.score_step()
        if self.settings.credit == "temporal":
            self._log(temporal.add_temporal_rewards(self.step, self._shuffled))
        return [pa_grpo.rewards_of(case)[0].total for case in self.step.cases[self.step.own]]

    def score_step(self) -> None:
        """Wait for the verdicts of the step, then score it."""
        with self.step.timed("judge_wait"):
            judged = self.judge.answer()
        pa_grpo.score(self.step, judged, self._tokenizer, self.settings)

    def reasoning(self, **columns: Any) -> list[float | None]:
        """Serves `GRPOTrainer._calculate_rewards` as its second reward: return R_R."""
        return [pa_grpo.rewards_of(case)[1].total for case in self.step.cases[self.step.own]]

    # --------------------------------------------------------------------------- log-probs and loss

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        vision: Sequence[data.Batch] | None = None,
        states: list[torch.Tensor] | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Serves `_generate_and_score_completions` (old policy and reference) and `compute_loss`.

        Returns log-probs and entropies of the completion tokens, (B, T), with the vision inputs of
        each row: `vision`, or by default those of the step. The list `states` gets the last hidden
        state before each token, (B, T, hidden), without gradient.
        """
        vision = self.step.vision if vision is None else vision
        vision = self.vision_once.see(model, vision, trained=model is not self.ref_model)
        types = self._token_types(input_ids, logits_to_keep)
        rows = Rows(input_ids, attention_mask, types, logits_to_keep, vision)
        with nullcontext() if torch.is_grad_enabled() else self.step.timed("log_probs"):
            found = read_rows(model, rows, self.accelerator, batch_size, compute_entropy, states)
        return *found, None

    def _token_types(self, input_ids: torch.Tensor, logits_to_keep: int) -> torch.Tensor:
        """Return 0 for text, 1 for image and 2 for video tokens of the prompt.

        Without them the model gives every token the positions of text.
        """
        types = (input_ids == self._image_pad_token_id).long()
        types += 2 * (input_ids == self._video_pad_token_id).long()
        types[:, input_ids.size(1) - logits_to_keep :] = 0
        return types

    def compute_loss(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Serves `Trainer.training_step` and `GRPOTrainer.prediction_step`: eq. (7).

        Equal to TRL's loss with `loss_type="grpo"` if each response has one advantage.
        """
        self.step.loss_began = pa_grpo.now()
        real, *masked = read_responses(self, model, inputs)
        logps = real.log_probs
        if self.model.training and self.state.global_step == 0 and self.beta != 0:
            check_reference(
                logps,
                inputs["ref_per_token_logps"],
                inputs["completion_mask"],
                self.accelerator.unwrap_model(self.model),
                self.ref_model and self.accelerator.unwrap_model(self.ref_model),
                torch.bfloat16 if self.args.bf16 else torch.float32,
            )
        settings = self.settings
        form = pa_grpo.LossForm.of(settings)
        more, terms = None, {"entropy": real.entropies.detach()}
        if masked:
            shown = torch.tensor([has_media(row) for row in inputs["vision"]], device=logps.device)
            more, masked_terms = perception_losses(
                real, masked[0], shown, settings.perception_loss, settings.double_entropy
            )
            terms |= masked_terms
        loss, found = pa_grpo.loss(inputs, logps, settings.epsilon, self.beta, form, more)
        self._log_loss(inputs, terms | found)
        return loss / (self.current_gradient_accumulation_steps if self.model.training else 1)

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Serves `Trainer.train`: adds the seconds of each part of a step to the log.

        `decode` frames, `encode` prompts, `generate`, `judge` and the part of it that the step had
        to wait for (`judge_wait`), `log_probs` of the old policy and the reference, `backward` with
        the policy's forward pass. With `rl.overlap` also `rollout_wait`: how long the step waited
        for its rollouts.
        """
        output = super().training_step(model, inputs, num_items_in_batch)
        step = self.step
        step.seconds["backward"] += pa_grpo.now() - step.loss_began
        if self.accelerator.sync_gradients:
            self._log({f"time/{part}": seconds for part, seconds in step.seconds.items()})
            step.seconds.clear()
        return output

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Serves `Trainer.train`: a checkpoint holds the critic too."""
        super()._save_checkpoint(model, trial)
        if self.critic is not None and self.args.should_save:
            name = f"{CHECKPOINT}{self.state.global_step}"
            self.critic.save(Path(self.args.output_dir) / name)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Serves `Trainer.train`: a resumed training continues with its critic."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.critic is not None and checkpoint is not None:
            self.critic.load(Path(checkpoint))

    # ----------------------------------------------------------------------------------------- logs

    def _log(self, values: Mapping[str, float]) -> None:
        """Add numbers to TRL's metrics, which averages them over a logging step."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in values.items():
            metrics[name].append(value)

    def _log_loss(self, inputs: Mapping[str, Any], terms: dict[str, torch.Tensor]) -> None:
        """Log the terms of the loss: of each micro-batch, and of an update by process."""
        self._log(loss_metrics(inputs, terms, self.accelerator))
        names, sums = process_sums(inputs, terms)
        self.step.totals = sums if self.step.totals is None else self.step.totals + sums
        if self.model.training and not self.accelerator.sync_gradients:
            return
        self._log(process_means(names, self.accelerator.reduce(self.step.totals, reduction="sum")))
        self.step.totals = None
