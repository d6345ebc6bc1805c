"""Prompts: the problem, its options with a letter each, the form of the answer, instructions."""

from __future__ import annotations

import hashlib
from typing import Any

from p2r.errors import DataError
from p2r.records import PROBLEM_TYPES, Question
from p2r.template.options import lettered_options

_FULL = """\
Answer in three parts, in this order, each inside its own tags.
1. <observation> </observation>: look. Write one paragraph. Begin it with "Based on the question, \
I need to notice" and say what has to be noticed to answer, then go straight on to what the \
{media} shows of it: things, people, written words, numbers, places, movements and their order in \
time. Report only what can be seen, and enough of it that a reader who cannot see the {media} \
could answer from this paragraph alone. Draw no conclusion yet.
2. <think> </think>: reason. Begin with "Based on the observations," and think aloud, step by \
step, from what you noticed to the answer. Doubt a step that seems weak, check the result against \
the observation, and correct yourself where they disagree.
3. <answer> </answer>: the final answer and nothing else, short, in agreement with both parts above.
Write nothing outside the tags:
<observation>…</observation> <think>…</think><answer>…</answer>"""

_THINK = """\
Answer in two parts, in this order, each inside its own tags.
1. <think> </think>: think aloud, step by step, about the question and the {media}, and check your \
result.
2. <answer> </answer>: the final answer and nothing else, short, in agreement with your thoughts.
Write nothing outside the tags:
<think>…</think><answer>…</answer>"""

# full: the three parts, for real models. brief: one line, for tiny models that learn from examples.
# think, brief-think: process-agnostic, without an observation. direct: the answer without tags.
INSTRUCTIONS = {
    "full": _FULL,
    "brief": "Observe, think, answer.",
    "think": _THINK,
    "brief-think": "Think, answer.",
    "direct": "Give only the answer.",
}

# The form of an answer for each problem type. Only the long styles include it.
ANSWER_FORMS = {
    "multiple choice": "The answer is the letter of one option, for example B.",
    "numerical": "The answer is one number, without words or unit, for example 4 or 3.14.",
    "OCR": "The answer is the text exactly as it is written in the {media}.",
    "free-form": "The answer is a short phrase or one sentence.",
    "regression": "The answer is one number, your best estimate, for example 12.5.",
}
_STYLES_WITH_FORM = ("full", "think")


def build_prompt(question: Question, style: str = "full") -> str:
    """Return the prompt: problem, one option per line, form of the answer, instructions.

    The options of a multiple-choice question have letters: their own, or those of their positions.

    Raises `DataError` for an unknown style or problem type.
    """
    if style not in INSTRUCTIONS:
        raise DataError(f"unknown prompt style {style!r}: use one of {', '.join(INSTRUCTIONS)}")
    if question.problem_type not in ANSWER_FORMS:
        raise DataError(
            f"question {question.id!r} has unknown problem type {question.problem_type!r}: "
            f"use one of {', '.join(PROBLEM_TYPES)}"
        )
    form = [ANSWER_FORMS[question.problem_type]] if style in _STYLES_WITH_FORM else []
    ours = [line.replace("{media}", question.data_type) for line in (*form, INSTRUCTIONS[style])]
    choice = question.problem_type == "multiple choice"
    options = lettered_options(question.options) if choice else question.options
    theirs = [_disarm(line.strip()) for line in (question.problem, *options)]
    return "\n".join(theirs + ours)


def build_messages(question: Question, style: str = "full") -> list[dict[str, Any]]:
    """Return one user turn for a chat template: a placeholder for the media, then the prompt.

    Messages never contain pixels or paths; `p2r.data` builds the model inputs.
    """
    text = {"type": "text", "text": build_prompt(question, style)}
    return [{"role": "user", "content": [{"type": question.data_type}, text]}]


def prompt_hash(style: str = "full") -> str:
    """Return 12 hex digits that change with the wording or layout of a style's prompts."""
    samples = [
        Question(id="", problem="problem", options=["A. a"], problem_type=kind, data_type=media)
        for kind in PROBLEM_TYPES
        for media in ("video", "image")
    ]
    prompts = "\0".join(build_prompt(sample, style) for sample in samples)
    return hashlib.sha256(prompts.encode()).hexdigest()[:12]


def render(observation: str | None, think: str, answer: str) -> str:
    """Return a response with these segments; observation None gives the process-agnostic form."""
    start = "" if observation is None else f"<observation>{observation}</observation> "
    return f"{start}<think>{think}</think><answer>{answer}</answer>"


def _disarm(text: str) -> str:
    """Break up `<|…|>`, so that a question's text cannot contain control tokens."""
    return text.replace("<|", "< |")
