"""The four panels of a case: observation, verdict, reasoning, answer. Also shown side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from p2r.browser.markup import (
    OUTCOME_WORDS,
    VERDICT_WORDS,
    chip,
    join,
    number,
    outcome_of,
    prose,
    reward_sum,
    signed_style,
    verdict_of,
    visible,
)
from p2r.judges.prompt import build_judge_prompt
from p2r.records import Case, ProcessReward


def panel(number: int, style: str, title: str, notes: Iterable[Markup], body: Markup) -> Markup:
    """Return a panel: its number and title, notes at the right, and the body."""
    return Markup(
        '<section class="panel {}"><h3><i aria-hidden="true">{}</i>{}<span class="notes">{}</span>'
        "</h3>{}</section>"
    ).format(style, number, title, join(notes), body)


def render_observation(case: Case, body: Markup | None = None) -> Markup:
    """Return what the model says it saw, with R_P and A_P. `body` replaces the plain text."""
    notes = _process_notes("P", case.trace.perception_tokens, case.perception_advantage)
    absent = "No readable observation. See the full response below."
    text = prose(case.trace.observation, absent, whole_text(case, "observation"))
    text = text if body is None else body
    return panel(1, "see", "Observation", notes, text + _reward("P", case.perception))


def render_reasoning(case: Case, body: Markup | None = None) -> Markup:
    """Return what the model concluded, with R_R and A_R. `body` replaces the plain text."""
    t = case.trace
    both = t.completion_tokens is not None and t.perception_tokens is not None
    tokens = t.completion_tokens - t.perception_tokens if both else None
    notes = _process_notes("R", tokens, case.reasoning_advantage)
    absent = "No readable reasoning. See the full response below."
    text = prose(t.think, absent, whole_text(case, "think"))
    text = text if body is None else body
    return panel(3, "think", "Reasoning", notes, text + _reward("R", case.reasoning))


def render_verdict(case: Case, details: bool = True) -> Markup:
    """Return the verdict of the perception judge; with `details` also its prompt and reply."""
    verdict = case.verdict
    if verdict is None:
        body = Markup('<p class="absent">This observation was not judged.</p>')
        return panel(2, "judge", "Perception judge", [chip("unknown", "? no verdict")], body)
    style, mark, word = VERDICT_WORDS[verdict_of(case)]
    notes = [chip(style, f"{mark} {word}")]
    notes += [chip("", verdict.judge)] if verdict.judge else []
    notes += [chip("", f"${verdict.cost:.4f}")] if verdict.cost else []
    absent = "The judge gave no rationale."
    body = prose(verdict.rationale or None, absent, whole_text(case, "rationale"))
    if details:
        body += _render_exchange(case)
    return panel(2, "judge", "Perception judge", notes, body)


def _render_exchange(case: Case) -> Markup:
    """Return the judge's prompt for this observation and its full reply."""
    if not case.trace.observation or case.verdict is None:
        return Markup("")
    usage = dict(case.verdict.usage)
    reply = usage.pop("reply", None) or case.verdict.rationale
    prompt = build_judge_prompt(case.question, case.trace.observation)
    counted = render_fact(usage) if usage else Markup("")
    return Markup(
        '<details class="quiet" id="judge-saw"><summary>Prompt and reply of the judge'
        "</summary><h4>Prompt <small>text only: question, reference answer, "
        "observation</small></h4>{}<h4>Reply</h4>{}<p>{}</p></details>"
    ).format(
        prose(prompt, "", whole_text(case, "observation")),
        prose(
            str(reply) if reply else None, "The reply was not kept.", whole_text(case, "rationale")
        ),
        counted,
    )


def render_answer(case: Case) -> Markup:
    """Return the answer beside the reference answer."""
    style, mark, word = OUTCOME_WORDS[outcome_of(case)]
    notes = [chip(style, f"{mark} {word}")]
    notes += [] if case.accuracy is None else [chip("", f"accuracy {number(case.accuracy)}")]
    if "mismatch" in case.tags:
        notes.append(chip("warn", "differs from the reasoning"))
    given = case.trace.answer
    body = Markup(
        '<p class="exchange"><span><small>answered</small><b dir="auto">{}</b></span>'
        '<span class="arrow" aria-hidden="true">→</span>'
        '<span><small>reference</small><b dir="auto">{}</b></span></p>'
    ).format(
        "no readable answer" if given is None else visible(given[:2000]),
        visible(case.question.answer[:2000]) or "none",
    )
    return panel(4, "answer", "Answer", notes, body)


def render_response(case: Case) -> Markup:
    """Return the full response with its format faults, for responses without the template."""
    notes = [chip("bad", f"format: {problem}") for problem in case.trace.problems]
    absent = "The response is empty."
    body = prose(case.trace.text or None, absent, whole_text(case, "text"))
    return panel(5, "whole", "The full response", notes, body)


def _process_notes(process: str, tokens: int | None, advantage: float | None) -> list[Markup]:
    notes = [] if tokens is None else [chip("", f"{tokens:,} tokens")]
    if advantage is not None:
        notes.append(
            Markup('<span class="chip {}" title="advantage">A<sub>{}</sub> {}</span>').format(
                signed_style(advantage), process, number(advantage, "+")
            )
        )
    return notes


def _reward(process: str, reward: ProcessReward | None) -> Markup:
    words = reward_sum(process, reward)
    return Markup('<p class="reward">{}</p>').format(words) if words else words


def render_fact(value: Any) -> Any:
    """Return a recorded value; a mapping as its names and values."""
    if not isinstance(value, dict):
        return visible(str(value)[:2000])
    return join(
        (
            Markup("<span><small>{}</small> {}</span>").format(
                visible(name),
                visible(
                    (item if isinstance(item, str) else json.dumps(item, ensure_ascii=False))[:600]
                ),
            )
            for name, item in value.items()
        ),
        " ",
    )


def whole_text(case: Case, part: str) -> str:
    """Return the address of a text of a case as plain text."""
    return "p2r/text?" + urlencode({"case": case.id, "part": part})
