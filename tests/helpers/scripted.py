"""An engine and a judge whose words are known: for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from p2r.engines import Completion, Request, Sampling
from p2r.records import Question, Verdict


class ScriptedEngine:
    """Answers each question by a function; an exception of it is that request's failure."""

    def __init__(self, answer: Callable[[Question], str], weights: str = "w1") -> None:
        self.name = "scripted"
        self.identity = {"engine": "scripted", "weights": weights}
        self.answer = answer
        self.asked: list[str] = []

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        # Backwards, as completions may come in any order.
        for request in reversed(list(requests)):
            self.asked.append(request.key)
            try:
                text = self.answer(request.question)
            except RuntimeError as error:
                yield Completion(request.key, error=str(error))
            else:
                yield Completion(request.key, text, [1] * len(text.split()), prompt_tokens=9)

    def stream(self, request: Request, sampling: Sampling) -> Iterator[str]:
        yield from self.answer(request.question)


class WordJudge:
    """Sufficient where the answer's word is in the observation; no verdict on "perhaps"."""

    name = "word"

    def __init__(self) -> None:
        self.asked = 0

    def judge(self, questions: Sequence[Question], observations: Sequence[str]) -> list[Verdict]:
        self.asked += len(observations)
        return [
            Verdict(sufficient=None, rationale="cannot say", judge=self.name)
            if "perhaps" in observation
            else Verdict(sufficient=question.answer in observation.split(), judge=self.name)
            for question, observation in zip(questions, observations, strict=True)
        ]
