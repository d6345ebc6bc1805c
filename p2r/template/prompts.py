"""Prompts: the problem, its options with a letter each, the form of the answer, instructions."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from p2r.errors import DataError
from p2r.files.prompt_file import fill_template, is_template, template_hash
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
STYLES_WITH_FORM = ("full", "think")
_PLACEHOLDER = re.compile(r"<(?:video|image)>")


def build_prompt(question: Question, style: str = "full") -> str:
    """Return the prompt: problem, one option per line, form of the answer, instructions.

    `style` is a key of `INSTRUCTIONS`, or the text of a prompt file (`p2r.files.prompt_file`).
    The options of a multiple-choice question have letters: their own, or those of their positions.

    Raises `DataError` for an unknown style or problem type.
    """
    from_file = is_template(style)
    if not from_file and style not in INSTRUCTIONS:
        raise DataError(
            f"unknown prompt style {style!r}: use a prompt file or one of {', '.join(INSTRUCTIONS)}"
        )
    if question.problem_type not in ANSWER_FORMS:
        raise DataError(
            f"question {question.id!r} has unknown problem type {question.problem_type!r}: "
            f"use one of {', '.join(PROBLEM_TYPES)}"
        )
    choice = question.problem_type == "multiple choice"
    options = lettered_options(question.options) if choice else question.options
    theirs = [disarm(line.strip()) for line in (question.problem, *options)]
    form = ANSWER_FORMS[question.problem_type].replace("{media}", question.media_word)
    if from_file:
        return fill_template(
            style,
            problem=theirs[0],
            options=theirs[1:],
            problem_type=question.problem_type,
            answer_form=form,
            media=question.media_word,
        )
    instructions = INSTRUCTIONS[style].replace("{media}", question.media_word)
    ours = [form, instructions] if style in STYLES_WITH_FORM else [instructions]
    return "\n".join(theirs + ours)


def build_messages(question: Question, style: str = "full") -> list[dict[str, Any]]:
    """Return one user turn for a chat template: a placeholder for each medium, then the prompt.

    If the problem says where its media belong (`<video>`, `<image>`), they are put there. Messages
    never contain pixels or paths; `p2r.data` builds the model inputs.
    """
    prompt = build_prompt(question, style)
    media = [{"type": medium.data_type} for medium in question.media]
    media = media or [{"type": question.data_type}]
    texts = _PLACEHOLDER.split(prompt) if len(media) > 1 else []
    if len(texts) != len(media) + 1:
        return [{"role": "user", "content": [*media, {"type": "text", "text": prompt}]}]
    content: list[dict[str, Any]] = [{"type": "text", "text": texts[0]}]
    for medium, text in zip(media, texts[1:], strict=True):
        content += [medium, {"type": "text", "text": text}]
    return [{"role": "user", "content": [part for part in content if part.get("text") != ""]}]


def prompt_hash(style: str = "full") -> str:
    """Return 12 hex digits that change with the wording or layout of a style's prompts."""
    if is_template(style):
        return template_hash(style)
    samples = [
        Question(id="", problem="problem", options=["A. a"], problem_type=kind, data_type=media)
        for kind in PROBLEM_TYPES
        for media in ("video", "image")
    ]
    prompts = "\0".join(build_prompt(sample, style) for sample in samples)
    return hashlib.sha256(prompts.encode()).hexdigest()[:12]


def style_name(style: str) -> str:
    """Return the short name of a style for records: a prompt file is named by its hash."""
    return f"file:{prompt_hash(style)}" if is_template(style) else style


def render(observation: str | None, think: str, answer: str) -> str:
    """Return a response with these segments; observation None gives the process-agnostic form."""
    start = "" if observation is None else f"<observation>{observation}</observation> "
    return f"{start}<think>{think}</think><answer>{answer}</answer>"


def disarm(text: str) -> str:
    """Break up `<|…|>`, so that a question's text cannot contain control tokens."""
    return text.replace("<|", "< |")
