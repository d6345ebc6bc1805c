"""The section `rl` of a recipe: what RL rewards, its loss and its sizes."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from p2r.runs.fields import Credit, Ends, Reward, Scheduler, Section, Share, recipe_folder
from p2r.runs.plugins import find_file


class LengthRanges(Section):
    """Lengths in tokens, [lowest, highest], that earn a process its length reward."""

    perception: Ends = (128, 320)
    """Lengths of the observation."""
    reasoning: Ends = (320, 512)
    """Lengths of think text and answer."""

    @field_validator("perception", "reasoning")
    @classmethod
    def _check_order(cls, ends: tuple[int, int]) -> tuple[int, int]:
        if ends[0] > ends[1]:
            raise ValueError("a range is [lowest, highest]")
        return ends


class CriticSettings(Section):
    """The value head of `rl.credit=critic` and `critic_process`."""

    learning_rate: PositiveFloat = 1e-3
    """Learning rate of the head."""
    updates: PositiveInt = 8
    """Updates of the head on each batch of rollouts. They need no pass of the policy."""
    gae_lambda: float = Field(1.0, ge=0, le=1)
    """λ of GAE: 1 compares each token's value with the final reward, 0 with the next value."""


class RlSettings(Section):
    """Reinforcement learning from the SFT model."""

    credit: Credit = "process"
    """`process` is PA-GRPO, `outcome` is GRPO, `temporal` is T-GRPO, `turn` is MT-GRPO, `critic` is
    PPO with a value head (`critic_process`: with both rewards); see `p2r.rewards`."""
    discount: float = Field(1.0, ge=0, le=1)
    """Discount of later rewards: with `turn`, the part of A_R in the advantage of perception
    tokens; with a critic, per token."""
    critic: CriticSettings = Field(default_factory=CriticSettings)
    perception_loss: NonNegativeFloat = 0.0
    """Weight γ of PAPO's implicit perception loss: the KL divergence of the policy on masked frames
    from the policy on the real frames is maximised (0: off; the paper has 0.01 or 0.02)."""
    mask_ratio: Share = 0.6
    """Share of patches that are black in the masked frames of `perception_loss`."""
    double_entropy: NonNegativeFloat = 0.03
    """Weight η of the entropies on real and on masked frames, if `perception_loss` is on. The
    entropies are minimised. Otherwise the KL divergence could grow through random text."""
    normalise: Literal["sequence", "process"] = "sequence"
    """Give the same weight to all tokens of a response, or to both of its processes."""
    rewards: list[Reward] = Field(default_factory=lambda: list(get_args(Reward)))
    """Rewards in use; leave one out for a run without it."""
    reward: str | None = None
    """Your function in place of eq. (5): `FILE.py:NAME` or `package.module:NAME` (none: eq. (5));
    see `p2r.rewards.load_reward`."""
    rollouts: Literal["transformers", "vllm", "vllm-server"] = "transformers"
    """Who samples: this worker, vLLM in this worker, or a server at `server.base_url`."""
    overlap: bool = False
    """Sample the rollouts of the next step while the present step is trained, with the weights from
    before its update (one-step-off sampling). Needs `rollouts: vllm-server`."""
    judge: str | dict[str, Any] = "oracle"
    """Judge of the observations."""
    judge_always: bool = False
    """Ask a judge that costs money also if no reward needs its verdicts (credit=outcome)."""
    judge_timeout: float = Field(600.0, gt=0)
    """Seconds that a step waits for its verdicts."""
    judge_retries: NonNegativeInt = 1
    """How often a failed call to the judge is repeated."""
    max_unknown: float = Field(0.5, ge=0, le=1)
    """Largest share of missing verdicts; above it the run stops."""
    preflight: NonNegativeInt = 4
    """Prompts to try on the start model before step 1."""
    steps: PositiveInt = 1000
    """Number of steps."""
    prompts_per_step: PositiveInt = 7
    """Questions per step."""
    group_size: PositiveInt = 8
    """Rollouts per question."""
    dynamic_sampling: Literal["none", "all", "any", "perception", "reasoning"] = "none"
    """Replace groups of rollouts without a learning signal by groups of other questions (DAPO):
    groups in which all rewards are equal, for `all` processes in use, `any` of them, or one."""
    dynamic_rounds: PositiveInt = 3
    """How often a step may sample other groups, if `dynamic_sampling` is on."""
    micro_batch: PositiveInt = 8
    """Rollouts per forward pass of the loss. Rollouts of the same question share their prompt."""
    learning_rate: NonNegativeFloat = 1e-6
    """Highest learning rate."""
    scheduler: Scheduler = "cosine"
    """Schedule of the learning rate."""
    warmup_ratio: float = Field(0.0, ge=0, lt=1)
    """Share of the steps in which the learning rate rises to its highest value; the first of these
    steps has the rate 0. In its first steps Adam moves all weights equally far, so a high rate can
    damage the policy."""
    beta: NonNegativeFloat = 0.04
    """Weight of the KL term, eq. (7)."""
    updates: PositiveInt = 1
    """Optimiser steps on each batch of rollouts; `steps` counts all of them. With 1, the ratio of
    eq. (7) is always 1 and nothing is clipped."""
    loss: Literal["grpo", "dr_grpo", "cispo"] = "grpo"
    """`grpo` is eq. (7). `dr_grpo` divides the loss of a response by `max_tokens` in place of its
    length. `cispo` caps the ratio but keeps the gradient of every token."""
    epsilon: PositiveFloat = 0.2
    """Clipping range of the ratio, eq. (7)."""
    epsilon_high: PositiveFloat | None = None
    """Upper clipping range (clip-higher; none: `epsilon`). With `cispo`: the largest ratio."""
    ratio: Literal["token", "sequence"] = "token"
    """The ratio of eq. (7): of each token, or of the whole response (GSPO)."""
    scale_rewards: Literal["group", "none"] = "group"
    """Divide advantages by the standard deviation of their group, eq. (6), or not (Dr. GRPO)."""
    max_tokens: PositiveInt = 768
    """Most tokens per rollout."""
    temperature: NonNegativeFloat = 1.0
    """Sampling temperature of rollouts."""
    top_p: Share = 0.95
    """Nucleus sampling: share of probability to sample from."""
    max_grad_norm: NonNegativeFloat = 5.0
    """Gradients are clipped to this norm."""
    weight_decay: NonNegativeFloat = 0.01
    """Weight decay of AdamW."""
    length_ranges: LengthRanges = Field(default_factory=LengthRanges)
    length_bonus: NonNegativeFloat = 0.2
    """Size of the length reward."""
    save_steps: PositiveInt = 100
    """Steps between two checkpoints; see `keep`."""
    validate_every: NonNegativeInt = 0
    """Steps between two validations on held-out questions (0: none)."""
    validate_questions: PositiveInt = 32
    """Questions to hold out of the training for validation."""

    @field_validator("reward")
    @classmethod
    def _find_reward(cls, spec: str | None, info: ValidationInfo) -> str | None:
        return spec and find_file(spec, recipe_folder(info))
