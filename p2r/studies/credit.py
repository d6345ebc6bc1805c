"""Compares PA-GRPO and GRPO, trained from the same SFT model with several RL seeds."""

from __future__ import annotations

from p2r import stages
from p2r.errors import UserError
from p2r.records import Case
from p2r.stages.demo import train_both
from p2r.studies.base import SeedRun, Study

ARMS = ("grpo", "pa_grpo")  # also the folders of the models in a run


def evaluate_credits(seed: SeedRun) -> dict[str, list[Case]]:
    """Train with both credit schemes and evaluate both models on the test split."""
    start = seed.main.folder / "sft" / "model"
    if not start.is_dir():
        raise UserError(f"run {seed.main.folder} has no SFT model: run `p2r demo` or `p2r sft`")
    train_both(seed.run, start_model=str(start), **seed.inputs("rl"))
    return {
        arm: stages.evaluate(
            seed.run, str(seed.run.folder / arm / "model"), arm, **seed.inputs("eval")
        )[0]
        for arm in ARMS
    }


STUDY = Study("credit", ARMS, difference=("pa_grpo", "grpo"), evaluate=evaluate_credits)
