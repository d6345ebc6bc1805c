"""Scores a tiny model on scenes that it was not trained on."""

from __future__ import annotations

import random
from typing import Any

import torch

from p2r import data, template
from p2r.playground.drawing import draw
from p2r.playground.examples import STYLE
from p2r.playground.language import COMPLETE, ask, describe, to_question
from p2r.playground.oracle import OracleJudge
from p2r.playground.world import sample_scene
from p2r.scoring import accuracy

FIRST_SEED = 90_000_000
BATCH = 50


@torch.no_grad()
def score(model: Any, processor: Any, count: int = 300, style: str = STYLE) -> dict[str, float]:
    """Return mean scores of greedy responses to `count` questions (a multiple of 50).

    The scores are the accuracy of answers, and the shares of sufficient observations, of responses
    in the right format, and of true sentences.
    """
    rights, sufficient, told, formats = [], [], [], []
    for start in range(0, count, BATCH):
        scenes = [sample_scene(FIRST_SEED + i) for i in range(start, start + BATCH)]
        rngs = [random.Random(f"ask {start + i}") for i in range(BATCH)]
        questions = [to_question(ask(s, r)) for s, r in zip(scenes, rngs, strict=True)]
        batch = data.encode_prompts(processor, questions, [draw(s) for s in scenes], style)
        inputs = data.to_model_inputs(batch)
        out = model.generate(**inputs, max_new_tokens=170, do_sample=False)
        texts = processor.tokenizer.batch_decode(
            out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        parsed = [template.parse(text) for text in texts]
        verdicts = OracleJudge().judge(questions, [p.observation or "" for p in parsed])
        for scene, question, text, segments, verdict in zip(
            scenes, questions, texts, parsed, verdicts, strict=True
        ):
            answer = template.answer_of(text)
            rights.append(
                accuracy(question.problem_type, answer, question.answer, question.options or None)
            )
            sufficient.append(bool(verdict.sufficient))
            formats.append(segments.ok)
            seen = describe(scene, random.Random(0), COMPLETE, frozenset()).split(". ")
            true = {sentence.rstrip(".") for sentence in seen}
            said = (segments.observation or "").split(". ")[1:]
            told += [sentence.rstrip(".") in true for sentence in said]
    return {
        "n": count,
        "accuracy": _share(rights),
        "sufficient": _share(sufficient),
        "format": _share(formats),
        "sentences_true": _share(told),
        "sentences": len(told),
    }


def _share(values: list) -> float:
    return round(sum(values) / max(1, len(values)), 4)
