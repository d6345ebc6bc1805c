"""Writes responses with a tiny model or from the truth, for cards and probes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from p2r import data, template
from p2r.playground.second.chapters import scene_from_dict
from p2r.playground.second.habits import Habit, describe, respond
from p2r.playground.second.questions import SceneQuestion
from p2r.records import Question
from p2r.video import Clips

BATCH = 50
MAX_TOKENS = 200
# Writes responses from questions, frames (None: text only), beginnings of the responses, and prompt
# style. The returned responses include their beginnings.
Writer = Callable[[Sequence[Question], Iterable[Clips], Sequence[str], str], list[str]]


def make_writer(model: Any, processor: Any, max_tokens: int = MAX_TOKENS) -> Writer:
    """Return the writer of a model: greedy responses, in batches."""

    def write(
        questions: Sequence[Question],
        frames: Iterable[Clips],
        given: Sequence[str],
        style: str,
    ) -> list[str]:
        rows = (
            _encode(processor, *row, style) for row in zip(questions, frames, given, strict=True)
        )
        ids = _generate(model, processor, rows, max_new_tokens=max_tokens, do_sample=False)
        texts = processor.tokenizer.batch_decode([*ids], skip_special_tokens=True)
        return [begun + text for begun, text in zip(given, texts, strict=True)]

    return write


def sample_responses(
    model: Any,
    processor: Any,
    questions: Sequence[Question],
    frames: Iterable[Clips],
    style: str,
    **generation: Any,
) -> list[list[int]]:
    """Return the token ids of one sampled response to each question, without the end of turn.

    `generation` are arguments of `generate`. The samples depend on torch's random state. No vision
    token is sampled.
    """
    end = {processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id}
    rows = (
        _encode(processor, question, shown, "", style)
        for question, shown in zip(questions, frames, strict=True)
    )
    banned = template.banned_token_ids(processor.tokenizer)
    ids = _generate(
        model, processor, rows, do_sample=True, top_k=0, suppress_tokens=banned, **generation
    )
    return [[token for token in row if token not in end] for row in ids]


def _encode(
    processor: Any, question: Question, frames: Clips, begun: str, style: str
) -> dict[str, Any]:
    sample = data.encode_example(processor, question, frames, begun, style)
    sample.pop("labels")
    for key in ("input_ids", "mm_token_type_ids"):
        sample[key] = sample[key][:-1]  # without the end of the turn
    return sample


def _generate(
    model: Any, processor: Any, rows: Iterator[dict[str, Any]], **generation: Any
) -> Iterator[list[int]]:
    """Yield the new tokens of each row."""
    import torch

    pad = processor.tokenizer.pad_token_id
    while batch := [*islice(rows, BATCH)]:
        inputs = data.to_model_inputs(data.pad_samples(batch, pad, "left"), model.device)
        with torch.no_grad():
            out = model.generate(**inputs, **generation)
        yield from out[:, inputs["input_ids"].shape[1] :].tolist()


def habit_writer(habit: Habit) -> Writer:
    """Return the writer of a habit: it knows the scenes, and makes the mistakes of the habit."""

    def write(
        questions: Sequence[Question],
        frames: Iterable[Clips],
        given: Sequence[str],
        style: str,
    ) -> list[str]:
        texts = []
        for question in questions:
            rng = random.Random(f"habit {question.id}")
            asked = scene_question(question)
            scene = scene_from_dict(question.meta["scene"])
            sentences = describe(scene, rng, habit, asked.needs)
            texts.append(respond(asked, sentences, rng, habit))
        return texts

    return write


def scene_question(question: Question) -> SceneQuestion:
    """Return the scene question from which a record of the second world was made."""
    values = {option[0]: option.partition(". ")[2] for option in question.options}
    return SceneQuestion(
        kind=question.meta["kind"],
        problem=question.problem,
        problem_type=question.problem_type,
        answer=question.answer,
        options=question.options,
        needs=tuple(question.meta["needs"]),
        value=values.get(question.answer, question.answer),
    )
