"""The metrics of a study: all of `p2r eval`, the truth of sentences, sources, and lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from p2r.evaluation.run import ALL_METRICS
from p2r.playground import truth
from p2r.playground.second.questions import CANNOT_TELL
from p2r.records import Case
from p2r.scoring.answers import extract_choice, option_texts
from p2r.studies.base import Measure, Study
from p2r.studies.framework.learned_judge import oracle_says


def follows(source: truth.Source) -> Measure:
    """Return the share of answers that follow the note, the video or neither (false notes)."""

    def of(case: Case) -> float | None:
        note = case.question.meta.get("note")
        if not isinstance(note, str) or not truth.has_scene(case.question):
            return None
        return float(truth.source_followed(case.question, note, case.trace.answer) == source)

    return Measure(of)


def says_cannot_tell(case: Case) -> float | None:
    """Return 1 if the answer is "cannot tell"; None if this is no option of the question."""
    texts = option_texts(case.question.options)
    letter = next((letter for letter, text in texts.items() if text == CANNOT_TELL), None)
    if letter is None:
        return None
    return float(extract_choice(case.trace.answer, case.question.options) == letter)


def agrees_with_oracle(case: Case) -> float | None:
    """Return 1 if verdict and oracle agree, else 0; None if one of them is unknown."""
    if case.verdict is None or case.verdict.sufficient is None or not case.trace.observation:
        return None
    known = oracle_says(case.question, case.trace.observation)
    return None if known is None else float(known == case.verdict.sufficient)


def _tokens(case: Case) -> float | None:
    return case.trace.completion_tokens


def _observed(case: Case) -> float | None:
    return case.trace.perception_tokens


def _prompt(case: Case) -> float | None:
    return case.trace.prompt_tokens


MEASURES: dict[str, Measure] = {
    **{name: Measure(of) for name, of in ALL_METRICS.items()},
    "follows note": follows("note"),
    "follows video": follows("video"),
    "cannot tell": Measure(says_cannot_tell),
    "sentences": Measure(truth.told_sentences, "sentences"),
    "tokens": Measure(_tokens, "tokens"),
    "observation tokens": Measure(_observed, "tokens"),
    "prompt tokens": Measure(_prompt, "tokens"),
}


# Metrics of the observation: unknown for models and views without one.
OF_OBSERVATIONS = (
    *("sufficiency", "format", "faithful", "sufficient and true", "sentences"),
    "observation tokens",
)


def measures_of(study: Study) -> Mapping[str, Measure]:
    """Return the metrics of a study, its own ones last."""
    return MEASURES | dict(study.metrics)


def measure_case(case: Case, measures: Mapping[str, Measure]) -> dict[str, Any]:
    """Return every metric of a case that is known."""
    values = {name: measure.of(case) for name, measure in measures.items()}
    return {name: value for name, value in values.items() if value is not None}
