"""The numbers on held-out examples that end a stage of pre-training."""

from __future__ import annotations

import random
from typing import Any

import torch

from p2r import data
from p2r.playground import card
from p2r.playground.pretraining.batches import encode
from p2r.playground.pretraining.curriculum import FIRST_HELD_OUT, MAKERS, Stage
from p2r.playground.second.questions import KINDS
from p2r.playground.writer import make_writer

COUNT = 64
PER_KIND = 20
_TEXT_ONLY = (
    *("repeat words", "repeat", "letters", "parts", "look up"),
    *("two steps", "movers", "chains", "mixed chains"),
)


def measure(stage: Stage, model: Any, processor: Any) -> dict[str, float]:
    """Return held-out numbers of a model.

    For each maker of a stage that shows videos: the share of tokens that the model predicts right
    after the true beginning. For look-up: the share of right answers in free generation, by kind
    of question, and the share of the worst kind.
    """
    model.eval()
    found = {
        name: token_skill(name, model, processor, stage)
        for name in stage.mix
        if name not in _TEXT_ONLY
    }
    if "look up" in stage.mix:
        rights = look_up_skill(model, processor)
        found |= {f"look up, {kind}": right for kind, right in rights.items()}
        found["look up, worst kind"] = min(rights.values())
        found["look up, mean"] = sum(rights.values()) / len(rights)
    return found


def right_tokens(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of labels that are the most likely tokens. Shapes (B, L, V) and (B, L)."""
    labels, best = labels[:, 1:], logits[:, :-1].argmax(-1)
    known = labels != -100
    return ((best == labels) & known).sum().item() / known.sum().item()


@torch.no_grad()
def token_skill(name: str, model: Any, processor: Any, stage: Stage) -> float:
    """Return the share of tokens of held-out examples of a maker that are predicted rightly."""
    rows = []
    for seed in range(FIRST_HELD_OUT, FIRST_HELD_OUT + COUNT):
        row, _ = encode(processor, MAKERS[name](seed), stage, random.Random(f"held {seed}"))
        rows.append(row)
    inputs = data.collate_examples(rows, processor.tokenizer.pad_token_id)
    return right_tokens(model(**inputs).logits, inputs["labels"])


def look_up_skill(model: Any, processor: Any) -> dict[str, float]:
    """Return the share of right answers from notes in the prompt, by kind of question."""
    questions = card.card_questions(PER_KIND, "validation")
    table = card.look_up_skill(make_writer(model, processor), questions)
    return {kind: table[kind]["mean"] for kind in KINDS}
