"""A small judge that learned from examples: logistic regression on the words of the texts.

It reads what an LLM judge reads: question, right answer and observation. It learns from made-up
observations of playground scenes and the verdicts of the oracle, once per world, in seconds. In a
recipe: `rl.judge=p2r.studies.framework.learned_judge:LearnedJudge`.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterable
from functools import cache

import numpy as np

from p2r.judges import BaseJudge
from p2r.playground import examples as first
from p2r.playground.oracle import OracleJudge
from p2r.playground.second import examples as second
from p2r.playground.second.habits import BASE, CARELESS, TARGETED, TEACHER
from p2r.playground.truth import generation_of, split_sentences
from p2r.playground.world import sample_scene
from p2r.records import Question, Verdict
from p2r.template import parse

EXAMPLES, FIRST_SEED = 3000, 70_000_000
FORMS, STEPS, RATE, DECAY = 64, 400, 0.5, 1e-4


class LearnedJudge(BaseJudge):
    """Says sufficient if the regression gives it a probability of at least one half."""

    name = "learned"
    free = True

    async def ask(self, question: Question, observation: str) -> Verdict:
        """Return the verdict, with the probability as its rationale."""
        weights = learn(generation_of(question))
        probability = float(_sigmoid(features(question, observation) @ weights))
        return Verdict(
            sufficient=probability >= 0.5,
            rationale=f"probability {probability:.2f}",
            judge=self.name,
        )


def features(question: Question, observation: str) -> np.ndarray:
    """Return the features of a text: overlaps of words, once alone and once per form of question.

    The form of a question is its first words, as one of `FORMS` hashes.
    """
    asked, answer = _words(question.problem), _words(_value(question))
    sentences = [_words(sentence) for sentence in split_sentences(observation)] or [set()]
    best = max(sentences, key=lambda words: (len(words & asked), len(words & answer)))
    everything = set().union(*sentences)
    named = asked & everything
    values = [
        1.0,
        len(best & asked) / max(1, len(asked)),
        len(named) / max(1, len(asked)),
        len(best & answer) / max(1, len(answer)),
        len(everything & answer) / max(1, len(answer)),
        float(answer <= best),
        float(answer <= everything),
        len(sentences) / 5,
        len(best) / 20,
    ]
    form = zlib.crc32(" ".join(question.problem.split()[:3]).encode()) % FORMS
    row = np.zeros(len(values) * (FORMS + 1))
    row[: len(values)] = values
    row[len(values) * (form + 1) : len(values) * (form + 2)] = values
    return row


@cache
def learn(generation: int) -> np.ndarray:
    """Return the weights for a world. Equal examples give equal weights."""
    rows, verdicts = zip(*_examples(generation), strict=True)
    table, wanted = np.stack(rows), np.array(verdicts, dtype=float)
    weights = np.zeros(table.shape[1])
    for _ in range(STEPS):
        error = _sigmoid(table @ weights) - wanted
        weights -= RATE * (table.T @ error / len(wanted) + DECAY * weights)
    return weights


def _examples(generation: int) -> Iterable[tuple[np.ndarray, bool]]:
    for question, observation in made_up(generation, range(FIRST_SEED, FIRST_SEED + EXAMPLES)):
        verdict = oracle_says(question, observation)
        if verdict is not None:
            yield features(question, observation), verdict


def made_up(generation: int, seeds: Iterable[int]) -> Iterable[tuple[Question, str]]:
    """Yield questions about scenes of a world with observations of different habits."""
    for seed in seeds:
        rng = random.Random(f"learned judge {seed}")
        if generation == 1:
            _, question, response = first.trace_of_any_habit(sample_scene(seed), rng)
        else:
            habit = rng.choice((TARGETED, TEACHER, BASE, CARELESS))
            made = second.trace(seed, habit, unclear=0.1)
            question, response = made.question, made.response
        question.meta = {"generation": generation}
        yield question, parse(response).observation or ""


def oracle_says(question: Question, observation: str) -> bool | None:
    """Return the verdict of the oracle; None if it is unknown.

    The oracle waits for nothing, so its answer comes at the first step of its coroutine.
    """
    try:
        OracleJudge().ask(question, observation).send(None)
    except StopIteration as answer:
        return answer.value.sufficient
    raise AssertionError("the oracle waited for something")


def _value(question: Question) -> str:
    """Return the right answer in words: the text of the right option, or the answer."""
    texts = {option[:1]: option.partition(". ")[2] for option in question.options}
    return texts.get(question.answer, question.answer)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -30, 30)))
