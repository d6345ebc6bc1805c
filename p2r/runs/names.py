"""Names of a run's stages: folders, journal names and labels in tables and figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from p2r.runs.fields import Credit
from p2r.runs.rl_section import RlSettings

# The folder of RL under each credit scheme; also its name in results.
RL_STAGES: dict[Credit, str] = {
    "process": "pa_grpo",
    "outcome": "grpo",
    "shared": "grpo_shared",
    "decoupled": "grpo_decoupled",
    "temporal": "t_grpo",
    "turn": "mt_grpo",
    "critic": "critic",
    "critic_process": "critic_process",
}
# The same with the implicit perception loss (`rl.perception_loss`). GRPO with this loss is PAPO.
PAPO_STAGES: dict[Credit, str] = {
    credit: "papo" if credit == "outcome" else f"{stage}_papo"
    for credit, stage in RL_STAGES.items()
}
TRAINED_STAGES = ("sft", *RL_STAGES.values(), *PAPO_STAGES.values())
# The label of each model of a run in tables and figures.
MODEL_LABELS = {
    "base": "base",
    "base_direct": "base (direct answer)",
    "sft": "SFT",
    "grpo": "SFT + GRPO",
    "pa_grpo": "SFT + PA-GRPO",
    "pa_grpo_grounded": "SFT + grounded PA-GRPO",
    "t_grpo": "SFT + T-GRPO",
    "grpo_shared": "SFT + GRPO, shared reward",
    "grpo_decoupled": "SFT + GRPO, decoupled",
    "mt_grpo": "SFT + MT-GRPO",
    "critic": "SFT + PPO with a critic",
    "critic_process": "SFT + PPO with a critic, both rewards",
    "papo": "SFT + PAPO",
    "pa_grpo_papo": "SFT + PA-GRPO + PAPO",
}


# Splits of the playground's second world. The evaluation of a model on one is named MODEL-SPLIT.
OTHER_SPLITS = {"ambiguous": "ambiguous clips", "new_domain": "a new domain", "long": "long clips"}


def is_of_split(stage: str) -> bool:
    """Return whether an evaluation is on a split other than the test split."""
    return stage.endswith(tuple(f"-{split}" for split in OTHER_SPLITS))


def model_label(name: str) -> str:
    """Return the label of an evaluated model: `pa_grpo-long` is "SFT + PA-GRPO on long clips"."""
    for split, words in OTHER_SPLITS.items():
        if name.endswith(f"-{split}"):
            model = name.removesuffix(f"-{split}")
            return f"{MODEL_LABELS.get(model, model)} on {words}"
    return MODEL_LABELS.get(name, name)


def model_place(name: str) -> int:
    """Return the place of a model in the order of `MODEL_LABELS`; unknown ones come last."""
    order = [*MODEL_LABELS]
    return order.index(name) if name in order else len(order)


def trained_stages(folder: Path) -> list[str]:
    """Return the names of the trainings that have begun in a run: SFT first, then RL."""
    begun = {
        path.parent.name for made in ("made.json", "model") for path in folder.glob(f"*/{made}")
    }
    return sorted(begun, key=lambda name: (_place(name), name))


def training_command(stage: str, arms: Iterable[str] = ()) -> str | None:
    """Return the command that trains a stage; None if the name is not a stage.

    `arms` are the arms of the run's demo.
    """
    if stage == "sft":
        return "p2r sft"
    if stage in (*RL_STAGES.values(), *arms):
        return f"p2r rl --arm {stage}"
    schemes = {name: credit for credit, name in PAPO_STAGES.items()}
    if stage in schemes:
        return f"p2r rl --credit {schemes[stage]} --set rl.perception_loss=0.01"
    return None


def _place(name: str) -> int:
    return TRAINED_STAGES.index(name) if name in TRAINED_STAGES else len(TRAINED_STAGES)


def rl_stage(rl: RlSettings) -> str:
    """Return the folder of RL with these settings; also the name of its model in results."""
    return (PAPO_STAGES if rl.perception_loss else RL_STAGES)[rl.credit]
