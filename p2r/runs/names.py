"""Names of a run's stages: folders, journal names and labels in tables and figures."""

from __future__ import annotations

from p2r.runs.recipe import Credit

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
    "t_grpo": "SFT + T-GRPO",
}
