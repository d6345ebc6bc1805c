"""TRL's GRPO trainer, made process-aware and able to see video in the loss.

TRL 1.16's `GRPOTrainer` samples with a video but computes log-probs without it, silently, and knows
one advantage per response. `ProcessAwareGRPOTrainer` builds all model inputs through `p2r.data`,
hands the vision inputs to every forward pass (policy, old policy, reference), scores both processes
(eq. 5), normalises them within their group (eq. 6), spreads them over the tokens of each process as
the credit scheme says and weighs the tokens as the normalisation says (eq. 7). TRL keeps the loop,
the sampling, the clipped loss, the KL term, the reference model, accumulation and distribution.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer

from p2r import data
from p2r.errors import TrainingError
from p2r.judges import Judge
from p2r.records import Case, Question
from p2r.rewards import (
    PROCESSES,
    credit_advantages,
    process_masks,
    rewards_in_use,
    spread_advantages,
    token_weights,
)
from p2r.runs.recipe import RlSettings
from p2r.training.common import ExactResume
from p2r.training.prefix import Prompts, share_prompts, sharing
from p2r.training.rollouts import rollout_metrics, score_rollouts
from p2r.training.step_judge import JudgeWatch, StepJudge
from p2r.video import Frames

FramesOf = Callable[[Question], Frames | None]


class ProcessAwareGRPOTrainer(ExactResume, GRPOTrainer):
    """TRL's GRPO trainer for rewards per process, on video, image and text questions in one batch.

    `questions` are all questions by id, `frames_of` gives the frames of one (None: text only); a
    row of the data set names its question in the column `question`. `on_rollouts` receives every
    generation's cases. All else goes to `GRPOTrainer`; `model` is a path or hub id, so that the KL
    reference is that same model.
    """

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
        # The judge answers in a thread of its own while log-probs are computed.
        self._judge = StepJudge(judge, settings.judge_timeout, settings.judge_retries)
        self.settings = settings
        self.style = style
        self.on_rollouts = on_rollouts
        self.trace_fields = dict(trace_fields)
        # The current batch by rows; rows with the same prompt have one and the same vision entry.
        self._batch: list[Question] = []
        self._vision: list[data.Batch] = []
        self._cases: list[Case] = []
        self._seconds: dict[str, float] = defaultdict(float)
        self._prepared = 0.0
        self._totals: torch.Tensor | None = None  # (processes, values), of the update so far
        matters = "perception" in rewards_in_use(settings.credit, settings.rewards)
        self._watch = JudgeWatch(settings.max_unknown if matters else 1.0)
        if "question" not in arguments["train_dataset"].column_names:
            raise TrainingError(
                "the data set has no column 'question': both rewards look up there which of the "
                "questions a row asks"
            )
        super().__init__(model, reward_funcs=[self.perception, self.reasoning], **arguments)
        for each in (self.model, self.ref_model):
            if each is not None:
                share_prompts(self.accelerator.unwrap_model(each))

    # ------------------------------------------------------------------ sampling and scoring

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Prompts of the current batch's questions; each distinct one is encoded once."""
        distinct = {question.id: question for question in self._batch}
        with self._timed("decode"):
            frames = [self.frames_of(question) for question in distinct.values()]
        with self._timed("encode"):
            encoded = data.encode_prompts(
                self.processing_class, list(distinct.values()), frames, self.style
            )
        place = {name: index for index, name in enumerate(distinct)}
        rows = [place[question.id] for question in self._batch]
        vision = [{key: encoded[key][i] for key in data.VISION_KEYS} for i in range(len(distinct))]
        self._vision = [vision[row] for row in rows]
        self._frames = [frames[row] for row in rows]
        self._media = [{} if frames[row] is None else frames[row].info() for row in rows]
        mask = encoded["attention_mask"].bool()
        prompt_ids = [encoded["input_ids"][row][mask[row]].tolist() for row in rows]
        types = [encoded["mm_token_type_ids"][row][mask[row]].tolist() for row in rows]
        self._prompt_tokens = [len(ids) for ids in prompt_ids]
        return prompt_ids, None, {"mm_token_type_ids": types, **_flat(self._vision)}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        length = max(self._prompt_tokens)
        sharing_prompts = self._sharing(self.model, slice(None), length, sampling=True)
        with self._timed("generate"), sharing_prompts:
            return super()._generate_single_turn(*args, **kwargs)

    def _generate(self, prompts: list) -> tuple:
        """TRL's sampling; then the judge begins, and TRL goes on to the log-probs."""
        sampled = super()._generate(prompts)
        texts = self._tokenizer.batch_decode(sampled[1], skip_special_tokens=True)
        self._judge.ask(self._batch, texts)
        return sampled

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        """Score every rollout once; TRL then gathers the rewards of both processes, (N, 2)."""
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        first = self.accelerator.process_index * len(inputs)
        fields = [
            {
                **self.trace_fields,
                "step": self.state.global_step + 1,
                "rollout": (first + row) % self._group_size,
                "prompt_tokens": self._prompt_tokens[row],
                "media": self._media[row],
            }
            for row in range(len(inputs))
        ]
        with self._timed("judge_wait"):
            judged = self._judge.answer()
        self._judge_calls = judged.calls
        if self.model.training:
            self._seconds["judge"] += judged.seconds
        self._cases = score_rollouts(
            self._tokenizer,
            self._batch,
            self._tokenizer.batch_decode(completion_ids_list, skip_special_tokens=True),
            completion_ids_list,
            [ids[-1] not in ends for ids in completion_ids_list],
            judged.verdicts,
            self.settings,
            fields,
        )
        self._rewards = super()._calculate_rewards(
            inputs, prompts, completions, completion_ids_list
        )
        return self._rewards

    def perception(self, **columns: Any) -> list[float | None]:
        """R_P of eq. (5) for the rollouts just scored; None where unknown."""
        return [case.perception.total for case in self._cases]

    def reasoning(self, **columns: Any) -> list[float | None]:
        """R_R of eq. (5) for the rollouts just scored; None where unknown."""
        return [case.reasoning.total for case in self._cases]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """TRL's batch, with the vision inputs of every row and (B, T) advantages."""
        self._batch = [self.questions[row["question"]] for row in inputs]
        output = super()._generate_and_score_completions(inputs)
        mode = "train" if self.model.training else "eval"
        # Groups lie on several processes: normalise all of them, keep the rows of this one.
        everyone = credit_advantages(
            self.settings.credit, self._rewards, self._group_size, self.settings.rewards
        )
        first = self.accelerator.process_index * len(inputs)
        advantages = everyone[first : first + len(inputs)]
        mask = output["completion_mask"]
        lengths = torch.tensor(
            [case.trace.perception_tokens for case in self._cases], device=mask.device
        )
        output["advantages"] = spread_advantages(advantages, lengths, mask)
        if self.settings.normalise != "sequence":  # which is TRL's own
            # TRL weighs both the clipped and the KL term with completion_mask × tool_mask and
            # divides by its sum, which stays the completion's length.
            weights = token_weights(self.settings.normalise, lengths, mask)
            output["tool_mask"] = weights * mask.sum(1, keepdim=True)
        output["vision"] = self._vision
        output["perception_tokens"] = lengths
        for case, (looked, reasoned) in zip(self._cases, advantages.tolist(), strict=True):
            case.perception_advantage, case.reasoning_advantage = looked, reasoned
        cases = gather_object(self._cases)
        found = rollout_metrics(cases, self._rewards.cpu().numpy(), self._group_size)
        found["judge/calls"] = sum(gather_object([self._judge_calls]))
        for name, value in found.items():
            self._metrics[mode][name].append(value)
        if mode == "train":
            if self.accelerator.is_main_process:
                self.on_rollouts(cases)
            self._watch.check(cases)
        return output

    # --------------------------------------------------------------------- forward and loss

    def _get_per_token_logps_and_entropies(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        batch_size=None,
        compute_entropy=False,
        compute_aux_loss=False,
        **_: Any,
    ):
        """TRL's log-probs, with each row's own vision inputs; all four callers come through here.

        `self._vision` holds the vision inputs of the rows: the generation's while it is scored, the
        micro-batch's in the loss.
        """
        count = input_ids.size(0)
        if count != len(self._vision):
            raise ValueError(f"{count} rows but vision inputs of {len(self._vision)}")
        types = self._token_types(input_ids, logits_to_keep)
        size = batch_size or count
        results = []
        with nullcontext() if torch.is_grad_enabled() else self._timed("log_probs"):
            for start in range(0, count, size):
                rows = slice(start, start + size)
                seeing = partial(model, **_flat(self._vision[rows], input_ids.device))
                with self._sharing(model, rows, input_ids.size(1) - logits_to_keep):
                    results.append(
                        super()._get_per_token_logps_and_entropies(
                            seeing,
                            input_ids[rows],
                            attention_mask[rows],
                            logits_to_keep,
                            compute_entropy=compute_entropy,
                            compute_aux_loss=compute_aux_loss,
                            mm_token_type_ids=types[rows],
                        )
                    )
        logps, entropies, losses = zip(*results, strict=True)
        logps = torch.cat(logps)
        entropies = torch.cat(entropies) if compute_entropy else None
        if compute_entropy:  # which is the loss
            self._policy = logps.detach(), entropies.detach()
        return (
            logps,
            entropies,
            torch.stack(losses).mean() if compute_aux_loss else None,
        )

    def _token_types(self, input_ids: torch.Tensor, logits_to_keep: int) -> torch.Tensor:
        """0 text, 1 image, 2 video, in the prompt; without them all would have text's RoPE."""
        types = (input_ids == self._image_pad_token_id).long()
        types += 2 * (input_ids == self._video_pad_token_id).long()
        types[:, input_ids.size(1) - logits_to_keep :] = 0
        return types

    def _compute_loss(self, model, inputs):
        self._vision = inputs["vision"]
        loss = super()._compute_loss(model, inputs)
        self._log_by_process(inputs)
        return loss

    def _log_by_process(self, inputs: dict[str, Any]) -> None:
        """Mean entropy, KL and clip share over all tokens of a process in an update, however its
        rows are cut into micro-batches.
        """
        logps, entropies = self._policy
        values = {"tokens": torch.ones_like(logps), "entropy": entropies}
        if "ref_per_token_logps" in inputs:
            ahead = inputs["ref_per_token_logps"] - logps
            values["kl"] = ahead.exp() - ahead - 1
        if "old_per_token_logps" in inputs:  # without them the ratio is 1 and nothing is clipped
            ratio = (logps - inputs["old_per_token_logps"]).exp()
            low = (ratio < 1 - self.epsilon_low) & (inputs["advantages"] < 0)
            high = (ratio > 1 + self.epsilon_high) & (inputs["advantages"] > 0)
            values["clip_ratio"] = (low | high).float()
        masks = process_masks(inputs["perception_tokens"], inputs["completion_mask"])
        table = torch.stack(list(values.values()))
        totals = torch.einsum("pbt,vbt->pv", torch.stack(masks).to(table.dtype), table)
        self._totals = totals if self._totals is None else self._totals + totals
        training = self.model.training
        if training and not self.accelerator.sync_gradients:
            return
        summed = self.accelerator.reduce(self._totals, reduction="sum").tolist()
        self._totals = None
        for process, (tokens, *rest) in zip(PROCESSES, summed, strict=True):
            for name, total in zip(list(values)[1:], rest, strict=True):
                if tokens:
                    key = f"{process}/{name}"
                    self._metrics["train" if training else "eval"][key].append(total / tokens)

    def _prepare_inputs(self, generation_batch):
        inputs = super()._prepare_inputs(generation_batch)
        self._prepared = self._now()
        return inputs

    def training_step(self, model, inputs, num_items_in_batch=None):
        """TRL's step; the seconds spent in each part are logged with it.

        `decode` frames, `encode` prompts with their features, `generate`, `judge` and what of it
        was waited for (`judge_wait`; the rest passed during `log_probs`), `log_probs` of the old
        and the reference policy, `backward` with the policy's forward pass.
        """
        output = super().training_step(model, inputs, num_items_in_batch)
        self._seconds["backward"] += self._now() - self._prepared
        if self.accelerator.sync_gradients:
            for part, seconds in self._seconds.items():
                self._metrics["train"][f"time/{part}"].append(seconds)
            self._seconds.clear()
        return output

    @property
    def _group_size(self) -> int:
        return self.num_generations if self.model.training else self.num_generations_eval

    def _sharing(self, model, rows: slice, length: int, sampling: bool = False):
        """Compute each distinct prompt of some rows once, unless its states may not be kept."""
        if self.args.gradient_checkpointing and torch.is_grad_enabled() and not sampling:
            return nullcontext()
        prompts = Prompts.of(self._vision[rows], length, self.accelerator.device)
        return sharing(self.accelerator.unwrap_model(model), prompts)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        """Adds the seconds inside to a part of the training step; evaluation is not counted."""
        start = self._now()
        yield
        if self.model.training:
            self._seconds[part] += self._now() - start

    def _now(self) -> float:
        """Seconds; on a GPU once the work handed to it is done."""
        if self.accelerator.device.type == "cuda":
            torch.cuda.synchronize(self.accelerator.device)
        return time.perf_counter()


def _flat(vision: Sequence[data.Batch], device: torch.device | None = None) -> dict[str, Any]:
    """The vision inputs of some rows as the flat tensors a model takes."""
    return data.to_model_inputs(
        {key: [row[key] for row in vision] for key in data.VISION_KEYS}, device
    )
