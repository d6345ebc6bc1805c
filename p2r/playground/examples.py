"""Examples that the tiny models learn from: a scene, a question about it and a response.

Each function makes one kind of example from a scene and a random generator.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from p2r import template
from p2r.playground.language import (
    COMPLETE,
    TARGETED,
    Fact,
    Habit,
    ask,
    describe,
    observe,
    tell,
    think,
    to_question,
)
from p2r.playground.world import Scene, sample_scene
from p2r.records import Question

TEACHER = Habit(needed=0.8, needless=0.4)
BASE = Habit(needed=0.3, needless=0.3)
HABITS = (COMPLETE, COMPLETE, TARGETED, TEACHER, Habit(needed=0.5, needless=0.5))  # to learn from
STYLE = "brief"
CAPTION = "Describe the video."

Example = tuple[Scene | None, Question, str]  # scene (None: text only), question, response


def caption(scene: Scene, rng: random.Random, habit: Habit = COMPLETE) -> Example:
    """A description of the scene."""
    question = Question(id="", problem=CAPTION, problem_type="free-form")
    return scene, question, describe(scene, rng, habit, frozenset())


def by_name(scene: Scene, rng: random.Random) -> Example:
    """A description of all objects, in the random order in which the prompt names them."""
    facts = [Fact.of(obj) for obj in scene.objects]
    rng.shuffle(facts)
    problem = f"Describe the {' and the '.join(fact.name for fact in facts)}."
    question = Question(id="", problem=problem, problem_type="free-form")
    return scene, question, " ".join(map(tell, facts))


def direct_answer(scene: Scene, rng: random.Random) -> Example:
    """A question and only its answer."""
    asked = ask(scene, rng)
    return scene, to_question(asked), asked.answer


def look_up(
    scene: Scene, rng: random.Random, only: str | None = None
) -> tuple[None, Question, str]:
    """A question whose prompt holds the facts as text, without the video.

    It teaches the model to look up, count and compare. `only` sets the problem type.
    """
    asked = ask(scene, rng)
    while only and asked.problem_type != only:
        asked = ask(scene, rng)
    question = to_question(asked)
    question.problem = f"{describe(scene, rng, COMPLETE, asked.needs)} {question.problem}"
    return None, question, template.render(None, think(asked), asked.answer)


def trace(scene: Scene, rng: random.Random, habit: Habit) -> Example:
    """A question and a trace in the template."""
    asked = ask(scene, rng)
    response = template.render(observe(scene, asked, rng, habit), think(asked), asked.answer)
    return scene, to_question(asked), response


def trace_of_any_habit(scene: Scene, rng: random.Random) -> Example:
    return trace(scene, rng, rng.choice(HABITS))


def described_answer(scene: Scene, rng: random.Random, habit: Habit) -> Example:
    """A trace whose prompt asks for a description before the question."""
    _, question, response = trace(scene, rng, habit)
    question.problem = f"{CAPTION} {question.problem}"
    return scene, question, response


def corpus(first_seed: int, count: int = 3000) -> Iterator[str]:
    """Yield text for the tokenizer: prompts and responses of every kind."""
    for seed in range(first_seed, first_seed + count):
        rng = random.Random(seed)
        _, question, response = trace(sample_scene(seed), rng, COMPLETE)
        yield template.build_prompt(question, STYLE) + "\n" + response
        yield template.build_prompt(question, "direct")
    yield from [f"user\n{CAPTION}", "assistant\n", *map(str, range(10))] * 50


def style_of(question: Question, rng: random.Random, response: str) -> str:
    """Return the prompt style that asks for a response of this form."""
    starts = {"<observation>": STYLE, "<think>": f"{STYLE}-think"}
    return next((style for tag, style in starts.items() if response.startswith(tag)), "direct")


def style_of_base(question: Question, rng: random.Random, response: str) -> str:
    """Return the template's style or "direct" at random: the base answers both in the same way."""
    return rng.choice((STYLE, "direct"))
