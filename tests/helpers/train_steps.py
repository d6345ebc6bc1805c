"""Train three steps of RL on scripted responses, on any number of workers."""

from __future__ import annotations

from pathlib import Path

import torch
from small_rl import FULL, WithResponses, make_trainer

from p2r.records import Question
from p2r.template import render
from p2r.training.trainer import ProcessAwareGRPOTrainer

STEPS, PROMPTS, GROUP = 3, 3, 4
VARIANTS = {  # name -> settings
    "sequence": ["rl.normalise=sequence"],
    "process": ["rl.normalise=process"],
    "critic and masked frames": ["rl.credit=critic_process", "rl.perception_loss=0.02"],
}
NAMES = ("long", "short", "text")  # questions: two grids, and text alone
# The responses to each prompt. Those to the second prompt all get the same rewards.
SAID = [
    *(FULL, render("I see.", "So two.", "2"), render("I see two.", "So three.", "3"), "2"),
    *[FULL] * 4,
    *(render("I see fog.", "So.", "2"), FULL, render("I see.", "So three, or so.", "3"), FULL),
]


class OfAll(WithResponses, ProcessAwareGRPOTrainer):
    """Each worker writes its part of the responses."""

    @property
    def responses(self):
        each = len(SAID) // self.accelerator.num_processes
        first = self.accelerator.process_index * each
        return SAID[first : first + each]


def train_steps(out: str, model: str, media: str, questions: str) -> None:
    """Train three steps of each variant; the main worker saves the results."""
    lines = Path(questions).read_text().splitlines()
    known = {q.id: q for q in map(Question.model_validate_json, lines)}
    asked = [known[name] for name in NAMES]
    Path(out).mkdir(exist_ok=True)
    for name, settings in VARIANTS.items():
        found = steps(Path(out), model, media, asked, *settings)
        if found:
            torch.save(found, Path(out) / f"{name}.pt")


def steps(out: Path, model: str, media: str, asked: list[Question], *overrides: str) -> dict:
    """Return metrics and cases of three steps; an empty result on other workers."""
    trainer, cases = make_trainer(
        OfAll, Path(model), Path(media), asked, out / "checkpoints",
        f"rl.steps={STEPS}", f"rl.group_size={GROUP}", "rl.micro_batch=3", "rl.learning_rate=1e-3",
        "rl.scheduler=constant", *overrides,
    )  # fmt: skip
    trainer.args.save_strategy = "no"
    trainer.train()
    if not trainer.is_world_process_zero():
        return {}
    return {
        "metrics": [row for row in trainer.state.log_history if "loss" in row],
        "cases": [case.model_dump(mode="json") for case in cases],
    }
