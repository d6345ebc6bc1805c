"""Names of a run's stages: folders, journal names and labels in tables and figures."""

from __future__ import annotations

from pathlib import Path

from p2r.runs.fields import Credit

# The folder of RL under each credit scheme; also its name in results.
RL_STAGES: dict[Credit, str] = {
    "process": "pa_grpo",
    "outcome": "grpo",
    "shared": "grpo_shared",
    "decoupled": "grpo_decoupled",
    "temporal": "t_grpo",
}
# The label of each model of a run in tables and figures.
MODEL_LABELS = {
    "base": "base",
    "base_direct": "base (direct answer)",
    "sft": "SFT",
    "grpo": "SFT + GRPO",
    "pa_grpo": "SFT + PA-GRPO",
    "pa_grpo_grounded": "SFT + grounded PA-GRPO",
    "t_grpo": "SFT + T-GRPO",
}


# Splits of the playground's second world. The evaluation of a model on one is named MODEL-SPLIT.
OTHER_SPLITS = ("ambiguous", "new_domain", "long")


def is_of_split(stage: str) -> bool:
    """Return whether an evaluation is about another split than the test split."""
    return stage.endswith(tuple(f"-{split}" for split in OTHER_SPLITS))


def trained_stages(folder: Path) -> list[str]:
    """Return the names of the trainings that have begun in a run: SFT first, then RL."""
    order = ("sft", *RL_STAGES.values())
    begun = {
        path.parent.name for made in ("made.json", "model") for path in folder.glob(f"*/{made}")
    }
    return sorted(begun, key=lambda name: (order.index(name) if name in order else 99, name))
