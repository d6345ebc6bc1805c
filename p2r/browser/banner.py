"""The banner of a case: one sentence that says why the case turned out as it did."""

from __future__ import annotations

import re
from dataclasses import dataclass

from p2r.browser.evidence import find_unsupported, read_observation
from p2r.browser.markup import outcome_of, shorten, verdict_of
from p2r.browser.scene import split_sentences
from p2r.browser.words import CELL_STYLES, MEANINGS
from p2r.records import Case

_LEAD = re.compile(r"^(?:not deducible|verdict|no|yes|not sufficient|sufficient)\s*[:.,]\s*", re.I)


@dataclass(frozen=True)
class Banner:
    """The banner: a style and a shape, the kind of the case in two words, and the reason."""

    style: str
    shape: str
    kind: str
    why: str

    @property
    def text(self) -> str:
        """The banner as one text."""
        return f"{self.kind[:1].upper()}{self.kind[1:]}. {self.why}"


def explain(case: Case) -> Banner:
    """Return the banner of a case."""
    verdict, outcome = verdict_of(case), outcome_of(case)
    given = f"“{shorten(case.trace.answer, 60)}”" if case.trace.answer else "empty"
    reference = f"“{shorten(case.question.answer, 60)}”"
    if (verdict, outcome) not in MEANINGS:
        return Banner("unknown", "○", *_explain_unknown(case, verdict, outcome, given))
    if verdict == "yes":
        why = (
            f"The observation holds what the question needs, and the answer {given} is right."
            if outcome == "right"
            else f"The observation holds what the question needs, but the answer is {given}, "
            f"not {reference}."
        )
    else:
        why = f"The observation is not sufficient{_reason(case)}."
        if outcome == "wrong":
            why += f" The answer {given} is wrong; the reference is {reference}."
        elif unsupported := find_unsupported(case):
            why += (
                f" The reasoning says “{shorten(unsupported, 120)}”, which no sentence of the "
                f"observation supports. The answer {given} is right anyway."
            )
        else:
            why += f" The answer {given} is right anyway."
    style, shape = CELL_STYLES[verdict, outcome]
    return Banner(style, shape, MEANINGS[verdict, outcome], f"{why}{_find_untruth(case)}")


def _explain_unknown(case: Case, verdict: str, outcome: str, given: str) -> tuple[str, str]:
    if verdict == "unknown":
        answer = {"right": "right", "wrong": "wrong", "unknown": "not scored"}[outcome]
        why = "gave no verdict on" if case.verdict else "has not read"
        return "no verdict", f"The judge {why} the observation. The answer {given} is {answer}."
    said = "sufficient" if verdict == "yes" else "not sufficient"
    return "not scored", f"The observation is {said}. The answer {given} was not scored."


def _reason(case: Case) -> str:
    """Return the judge's reason in brackets, from the first sentence of the rationale."""
    sentences = split_sentences(case.verdict.rationale if case.verdict else "")
    if not sentences:
        return ""
    said = _LEAD.sub("", sentences[0]).rstrip(".") or sentences[0]
    return f" (the judge: {shorten(said, 150)})"


def _find_untruth(case: Case) -> str:
    """Return a sentence about the untrue sentences of the observation, if there are any."""
    sentences = read_observation(case.question, case.trace.observation)
    known = [sentence for sentence in sentences if sentence.truth != "unknown"]
    wrong = sum(sentence.truth == "false" for sentence in known)
    if not wrong:
        return ""
    if len(known) == 1:
        return " Its only sentence about the clip is untrue or incomplete."
    verb = "is" if wrong == 1 else "are"
    return f" {wrong} of its {len(known)} sentences about the clip {verb} untrue or incomplete."
