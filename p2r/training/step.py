"""One PA-GRPO step as plain functions: sample → judge → score → advantages → loss.

All functions read and fill one record, `Step`. `p2r.training.trainer` calls them from TRL's
training loop in this order:

    step = Step(questions, group_size=8)
    listen(step, asking)                 # the judge may begin during sampling
    sample(step, …)                      # frames, prompts and completions
    judge(step, asking)                  # begins in the background, during the log-probs
    score(step, asking.answer(), …)      # cases and rewards, eq. (5)
    advantages(step, settings)           # eq. (6)
    batch |= loss_inputs(step, …)        # advantage and weight of every token
    loss(batch, log_probs, …)            # eq. (7), on each micro-batch

The equations are in `p2r.rewards`, the response template in `p2r.template`. Paper: VideoP2R, arXiv
2511.11113.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object

from p2r import data
from p2r.records import Case, ProcessReward, Question, Trace, Verdict
from p2r.rewards import (
    Rollout,
    apply_reward,
    credit_advantages,
    load_reward,
    process_reward,
    spread_advantages,
    token_weights,
)
from p2r.runs.recipe import RlSettings
from p2r.scoring import accuracy
from p2r.scoring.thoughts import mismatch_tags
from p2r.template import parse, perception_length
from p2r.training.stage import together
from p2r.training.step_judge import Judged, StepJudge
from p2r.training.vision_once import ONE_STEP
from p2r.video import Frames

FramesOf = Callable[[Question], Frames | None]
Hear = Callable[[int, str], None]  # gets a row and its text so far
_no_rows = partial(torch.zeros, 0, 2)  # of a step that is not scored yet


@dataclass(frozen=True)
class Prompt:
    """One encoded prompt: token ids, the type of each token (0 text, 1 image, 2 video), and the
    vision inputs. The rollouts of one question share one `Prompt`.
    """

    ids: list[int]
    types: list[int]
    vision: data.Batch


@dataclass
class Step:
    """One step on one worker (one OS process of the training), from questions to advantages.

    One row is one rollout; the `group_size` rollouts of a question are consecutive rows. The worker
    samples B rows. `cases`, `rewards` and `advantages` cover the N rows of all workers, because the
    rollouts of a question may be spread over several workers. `own` selects this worker's rows.
    """

    questions: list[Question]  # B
    group_size: int
    number: int = 1  # the optimiser step, from 1
    first_row: int = 0  # of this worker, among the N rows
    trace_fields: Mapping[str, Any] = field(default_factory=dict)  # the same for every trace
    shuffled: bool = False  # the second group of T-GRPO, on frames in random order
    in_background: bool = False  # sampled in a thread, while another step is trained

    frames: list[Frames | None] = field(default_factory=list)  # B, None: text only
    prompts: list[Prompt] = field(default_factory=list)  # B
    completions: list[list[int]] = field(default_factory=list)  # B, token ids with the end of turn
    sampling_log_probs: list[list[float]] | None = None  # B, from vLLM
    hear: Hear | None = None  # for the sampler, see `listen`
    texts: list[str] = field(default_factory=list)  # B, the completions as text
    truncated: list[bool] = field(default_factory=list)  # B, stopped by the token limit

    cases: list[Case] = field(default_factory=list)  # N
    rewards: torch.Tensor = field(default_factory=_no_rows)  # (N, 2): R_P, R_R, NaN: unknown
    advantages: torch.Tensor = field(default_factory=_no_rows)  # (N, 2), after credit assignment
    token_advantages: torch.Tensor | None = None  # (B, T), only from a critic
    metrics: dict[str, float] = field(default_factory=dict)  # of critic and dynamic sampling

    judge_calls: int = 0  # observations that this worker sent to the judge
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # by part
    loss_began: float = 0.0  # when the latest micro-batch began, see `now`
    totals: torch.Tensor | None = None  # (2, values): sums for the log, over micro-batches so far

    @property
    def own(self) -> slice:
        """The rows of this worker among the rows of all workers."""
        return slice(self.first_row, self.first_row + len(self.questions))

    @property
    def vision(self) -> list[data.Batch]:
        """The vision inputs of every row; rows with the same prompt share one object."""
        return [prompt.vision for prompt in self.prompts]

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the seconds spent inside the block to `seconds[part]`."""
        clock = time.perf_counter if self.in_background else now  # `now` would wait for the GPU
        start = clock()
        yield
        self.seconds[part] += clock() - start


def now() -> float:
    """Return the time in seconds, after the GPU has finished its work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


# ------------------------------------------------------------------------------------------- sample


def encode(step: Step, processor: Any, frames_of: FramesOf, style: str) -> None:
    """Fill `frames` and `prompts`. Each distinct question is decoded and encoded once."""
    distinct = {question.id: question for question in step.questions}
    with step.timed("decode"):
        frames = {name: frames_of(question) for name, question in distinct.items()}
    with step.timed("encode"):
        batch = data.encode_prompts(
            processor, list(distinct.values()), list(frames.values()), style
        )
    prompts = {}
    for row, name in enumerate(distinct):
        real = batch["attention_mask"][row].bool()  # without the padding
        prompts[name] = Prompt(
            batch["input_ids"][row][real].tolist(),
            batch["mm_token_type_ids"][row][real].tolist(),
            {key: batch[key][row] for key in data.VISION_KEYS} | {ONE_STEP: step.shuffled},
        )
    step.frames = [frames[question.id] for question in step.questions]
    step.prompts = [prompts[question.id] for question in step.questions]


def sample(
    step: Step,
    processor: Any,
    frames_of: FramesOf,
    style: str,
    generate: Callable[[list[Prompt]], tuple[list[list[int]], list[list[float]] | None]],
    ends: Collection[int],
) -> None:
    """Encode the prompts, then sample one completion for each row.

    `generate` returns token ids and, with vLLM, the log-probs of the sampled tokens. A completion
    that does not stop with one of the token ids `ends` was cut off at the token limit.
    """
    with nullcontext() if step.in_background else together():  # the others would wait
        encode(step, processor, frames_of, style)
    with step.timed("generate"):
        step.completions, step.sampling_log_probs = generate(step.prompts)
    step.texts = processor.tokenizer.batch_decode(step.completions, skip_special_tokens=True)
    step.truncated = [ids[-1] not in ends for ids in step.completions]


# -------------------------------------------------------------------------------------------- judge


def judge(step: Step, asking: StepJudge) -> None:
    """Start judging the observations in the background; `asking.answer()` gives the verdicts."""
    asking.ask(step.questions, step.texts)


# -------------------------------------------------------------------------------------------- score


def score(step: Step, judged: Judged, tokenizer: Any, settings: RlSettings) -> None:
    """Fill `cases` and `rewards` with both process rewards of every rollout, eq. (5).

    Unknown is not zero: a verdict that the judge could not give, or an answer whose reference
    cannot be scored, makes that reward unknown. An answer that is missing or unreadable earns 0.
    A function of the user (`settings.reward`) may replace both rewards.
    """
    step.judge_calls = judged.calls
    step.seconds["judge"] += judged.seconds
    own = [
        _score_rollout(step, row, verdict, tokenizer, settings)
        for row, verdict in enumerate(judged.verdicts)
    ]
    if settings.reward is not None:
        _replace_rewards(own, settings.reward)
    step.cases = gather_object(own)
    rewards = [[part.total for part in rewards_of(case)] for case in step.cases]
    step.rewards = torch.tensor(
        [[math.nan if total is None else total for total in row] for row in rewards]
    )


def rewards_of(case: Case) -> tuple[ProcessReward, ProcessReward]:
    """Return the rewards of perception and of reasoning of a scored case."""
    assert case.perception is not None and case.reasoning is not None
    return case.perception, case.reasoning


def _replace_rewards(cases: Sequence[Case], reward: str) -> None:
    """Let the user's function set both rewards of every case. All workers raise its error."""
    with together():
        function = load_reward(reward)
        for case in cases:
            rollout = Rollout(
                case.question, case.trace, case.accuracy, case.verdict, *rewards_of(case)
            )
            case.perception, case.reasoning = apply_reward(function, rollout)


def _score_rollout(
    step: Step, row: int, verdict: Verdict | None, tokenizer: Any, settings: RlSettings
) -> Case:
    question, text, ids = step.questions[row], step.texts[row], step.completions[row]
    parsed = parse(text)
    looked = perception_length(tokenizer, ids)  # the first tokens belong to perception
    sufficient = verdict.sufficient if verdict else None
    right = accuracy(question.problem_type, parsed.answer, question.answer, question.options)
    bonus = settings.length_bonus if "length" in settings.rewards else 0.0
    ranges = settings.length_ranges
    frames = step.frames[row] if step.frames else None
    case = Case(
        question=question,
        trace=Trace(
            question_id=question.id,
            text=text,
            **parsed.fields,
            prompt_tokens=len(step.prompts[row].ids) if step.prompts else None,
            completion_tokens=len(ids),
            perception_tokens=looked,
            truncated=step.truncated[row],
            step=step.number,
            rollout=(step.first_row + row) % step.group_size,
            media={} if frames is None else frames.info(),
            **step.trace_fields,
        ),
        accuracy=right,
        verdict=verdict,
        perception=process_reward(
            None if sufficient is None else float(sufficient),
            parsed.format_ok["perception"],
            looked,
            ranges.perception,
            bonus,
        ),
        reasoning=process_reward(
            right, parsed.format_ok["reasoning"], len(ids) - looked, ranges.reasoning, bonus
        ),
    )
    case.tags = mismatch_tags(case)
    return case


# --------------------------------------------------------------------------------------- advantages


def advantages(step: Step, settings: RlSettings) -> None:
    """Fill `advantages`: each process within its group, eq. (6), then the credit scheme.

    `settings.credit` "process" is PA-GRPO: perception tokens get A_P, reasoning tokens get A_R.
    """
    step.advantages = credit_advantages(
        settings.credit,
        step.rewards,
        step.group_size,
        settings.rewards,
        settings.scale_rewards == "group",
        settings.discount,
    )
    record_advantages(step)


def record_advantages(step: Step) -> None:
    """Write the advantages of both processes into the cases of a step."""
    for case, (looked, reasoned) in zip(step.cases, step.advantages.tolist(), strict=True):
        case.perception_advantage, case.reasoning_advantage = looked, reasoned


# --------------------------------------------------------------------------------------------- loss


def loss_inputs(step: Step, mask: torch.Tensor, settings: RlSettings) -> dict[str, Any]:
    """Return the inputs of `loss` and of the log for this worker's rows.

    `mask` (B, T) is 1 on completion tokens.
    The lists and tensors all have B rows, so that they can be split into micro-batches.
    """
    lengths = torch.tensor(
        [case.trace.perception_tokens for case in step.cases[step.own]], device=mask.device
    )
    weights = mask  # "sequence": every token of a completion weighs the same
    if settings.normalise != "sequence":
        weights = token_weights(settings.normalise, lengths, mask) * mask.sum(1, keepdim=True)
    advantages = step.token_advantages
    if advantages is None:
        advantages = spread_advantages(step.advantages[step.own].to(mask.device), lengths, mask)
    return {
        "vision": step.vision,
        "perception_tokens": lengths,  # (B,)
        "advantages": advantages,  # (B, T)
        "weights": weights,  # (B, T)
    }


@dataclass(frozen=True)
class LossForm:
    """The form of the loss: eq. (7) by default, or a variant of the literature.

    - `kind` "dr_grpo" (Dr. GRPO, arXiv 2503.20783): a response's loss is divided by `max_tokens`.
    - `kind` "cispo" (MiniMax-M1, arXiv 2506.13585): −min(ρ, ε_high) A log π, and min(ρ, ε_high) has
      no gradient. So the gradient of no token is lost.
    - `epsilon_high` (DAPO, arXiv 2503.14476): the upper clipping range, if it is not ε.
    - `level` "sequence" (GSPO-token, arXiv 2507.18071): ρ is the geometric mean over the response,
      with the gradient of the token. So each process keeps its own advantage; with equal advantages
      the gradient is that of GSPO.
    """

    kind: str = "grpo"
    epsilon_high: float | None = None
    level: str = "token"
    max_tokens: int = 1

    @classmethod
    def of(cls, settings: RlSettings) -> LossForm:
        """Return the form that a recipe sets."""
        return cls(settings.loss, settings.epsilon_high, settings.ratio, settings.max_tokens)


def loss(
    batch: Mapping[str, Any],
    log_probs: torch.Tensor,
    epsilon: float,
    beta: float,
    form: LossForm = LossForm(),
    more: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the loss of a micro-batch, eq. (7) with the sign reversed, and its terms for the log.

    `log_probs` (B, T) are those of the policy and carry the gradient. For every token

        −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + β (exp(r) − r − 1),   r = log π_ref − log π

    with ρ = π / π_old, averaged over each completion with `batch["weights"]`, then over
    completions. Without `old_per_token_logps` each batch is used for one update, and ρ = 1 with a
    gradient. `importance_sampling_ratio` (rollouts by vLLM) corrects the first term for the
    difference between the probabilities of vLLM and the trainer. `form` changes the loss, see
    `LossForm`. `more` (B, T) are losses to add to those of the tokens (see
    `p2r.training.perception_loss`). The terms: "kl", "clipped low", "clipped high", (B, T).
    """
    token_advantages, weights = batch["advantages"], batch["weights"]
    low, high = 1 - epsilon, 1 + (epsilon if form.epsilon_high is None else form.epsilon_high)
    log_ratio = log_probs - batch.get("old_per_token_logps", log_probs.detach())
    if form.level == "sequence":
        tokens = (weights > 0).float()
        mean = (log_ratio.detach() * tokens).sum(-1) / tokens.sum(-1).clamp(min=1.0)
        log_ratio = mean[:, None] + log_probs - log_probs.detach()
    ratio = torch.exp(log_ratio)
    if form.kind == "cispo":
        assert form.epsilon_high is not None
        low, high = -math.inf, form.epsilon_high
        losses = -torch.clamp(ratio, max=high).detach() * token_advantages * log_probs
    else:
        clipped = torch.clamp(ratio, low, high)
        losses = -torch.min(ratio * token_advantages, clipped * token_advantages)
    if "importance_sampling_ratio" in batch:
        losses = losses * batch["importance_sampling_ratio"]
    terms = {}
    if beta != 0:
        ahead = batch["ref_per_token_logps"] - log_probs
        kl = torch.exp(ahead) - ahead - 1
        losses = losses + beta * kl
        terms["kl"] = kl.detach()
    if more is not None:
        losses = losses + more
    terms["clipped low"] = ((ratio < low) & (token_advantages < 0)).float()
    terms["clipped high"] = ((ratio > high) & (token_advantages > 0)).float()
    length = form.max_tokens if form.kind == "dr_grpo" else weights.sum(-1).clamp(min=1.0)
    each = (losses * weights).sum(-1) / length
    return each.mean(), terms
