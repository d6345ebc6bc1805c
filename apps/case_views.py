"""One case of the case browser: question, four panels, neighbours, how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from apps.markup import (
    MEANINGS,
    OUTCOME_WORDS,
    VERDICT_WORDS,
    Row,
    case_link,
    chip,
    join,
    mark_chip,
    outcome_of,
    shorten,
    verdict_of,
)
from p2r.answers import extract_choice
from p2r.records import Case, ProcessReward


def render_missing(case_id: str, reason: str) -> Markup:
    """Instead of a case that is not there."""
    return Markup('<article class="case" data-case="{}"><p class="empty">{}</p></article>').format(
        case_id, reason
    )


def render_case(
    case: Case, media: Markup, group: Sequence[Row], others: Sequence[Row], others_total: int
) -> Markup:
    """A case whole: question, media (made by `render_media`), the four panels, how it was made.

    `group`: the rollouts of its question at its step; `others`: responses to the same question
    elsewhere, of which there may be more (`others_total`).
    """
    shown = "" if others_total == len(others) else f" (the first {len(others)} of {others_total})"
    return Markup(
        '<article class="case" data-case="{}">{}<div class="columns"><div class="left">{}</div>'
        '<div class="right">{}{}{}{}</div></div>{}{}{}{}</article>'
    ).format(
        case.id,
        _render_question(case),
        media,
        _render_observation(case),
        _render_verdict(case),
        _render_reasoning(case),
        _render_answer(case),
        _render_responses("Rollouts of this question", group if len(group) > 1 else [], case.id),
        _render_responses(f"The same question elsewhere{shown}", others, case.id),
        _render_raw(case),
        _render_making(case),
    )


def _render_question(case: Case) -> Markup:
    q, t = case.question, case.trace
    about = [q.problem_type, q.data_type, q.source, t.run, t.stage]
    if t.step is not None:
        about.append(f"step {t.step}")
    if t.rollout:
        about.append(f"rollout {t.rollout}")
    chips = [chip("", word) for word in about if word]
    chips += [chip("bad", f"format: {problem}") for problem in t.problems]
    chips += [chip("bad", "truncated")] if t.truncated else []
    chips += [chip("", tag) for tag in case.tags]
    return Markup(
        '<header><p class="about">{}</p>{}<h2>{}</h2>{}<p class="truth">reference answer '
        "<b>{}</b></p></header>"
    ).format(
        join(chips), _render_headline(case), q.problem, _render_options(case), q.answer or "none"
    )


def _render_headline(case: Case) -> Markup:
    verdict, outcome = verdict_of(case), outcome_of(case)
    seen, said = VERDICT_WORDS[verdict], OUTCOME_WORDS[outcome]
    meaning = MEANINGS.get((verdict, outcome))
    return Markup('<p class="headline">{} {} {}</p>').format(
        chip(f"big {seen[0]}", f"{seen[1]} observation: {seen[2]}"),
        chip(f"big {said[0]}", f"{said[1]} answer: {said[2]}"),
        Markup("<em>{}</em>").format(meaning) if meaning else "",
    )


def _render_options(case: Case) -> Markup:
    options = case.question.options
    if not options:
        return Markup("")
    truth = extract_choice(case.question.answer, options)
    given = extract_choice(case.trace.answer, options)
    items = []
    for index, option in enumerate(options):
        letter = extract_choice(option, options) or chr(ord("A") + index)
        marks = []
        if letter == truth:
            marks.append(chip("good", "reference"))
        if letter == given:
            marks.append(chip("good" if given == truth else "bad", "answered"))
        items.append(Markup("<li>{} {}</li>").format(option, join(marks)))
    return Markup('<ul class="options">{}</ul>').format(join(items))


def _panel(number: int, style: str, title: str, notes: Iterable[Markup], body: Markup) -> Markup:
    return Markup(
        '<section class="panel {}"><h3><i>{}</i>{}<span class="notes">{}</span></h3>{}</section>'
    ).format(style, number, title, join(notes), body)


def _text(text: str | None, absent: str) -> Markup:
    if text is None:
        return Markup('<p class="absent">{}</p>').format(absent)
    return Markup('<p class="text">{}</p>').format(text)


def _render_observation(case: Case) -> Markup:
    notes = _process_notes("P", case.trace.perception_tokens, case.perception_advantage)
    body = _text(case.trace.observation, "No readable observation: see the whole response below.")
    return _panel(1, "see", "Observation", notes, body + _reward("P", case.perception))


def _render_reasoning(case: Case) -> Markup:
    t = case.trace
    both = t.completion_tokens is not None and t.perception_tokens is not None
    tokens = t.completion_tokens - t.perception_tokens if both else None
    notes = _process_notes("R", tokens, case.reasoning_advantage)
    body = _text(t.think, "No readable reasoning: see the whole response below.")
    return _panel(3, "think", "Reasoning", notes, body + _reward("R", case.reasoning))


def _process_notes(process: str, tokens: int | None, advantage: float | None) -> list[Markup]:
    notes = [] if tokens is None else [chip("", f"{tokens} tokens")]
    if advantage is not None:
        style = "good" if advantage > 0 else "bad" if advantage < 0 else ""
        notes.append(
            Markup('<span class="chip {}" title="advantage">A<sub>{}</sub> {:+.2f}</span>').format(
                style, process, advantage
            )
        )
    return notes


def _reward(process: str, reward: ProcessReward | None) -> Markup:
    if reward is None:
        return Markup("")
    total = "unknown" if reward.total is None else f"{reward.total:.2f}"
    accuracy = "unknown" if reward.accuracy is None else f"{reward.accuracy:.2f}"
    return Markup(
        '<p class="reward"><b>R<sub>{}</sub> {}</b> = accuracy {} + format {:.2f} '
        "+ length {:.2f}</p>"
    ).format(process, total, accuracy, reward.format, reward.length)


def _render_verdict(case: Case) -> Markup:
    verdict = case.verdict
    if verdict is None:
        body = Markup('<p class="absent">Nobody judged this observation.</p>')
        return _panel(2, "judge", "Perception judge", [chip("unknown", "? no verdict")], body)
    style, mark, word = VERDICT_WORDS[verdict_of(case)]
    notes = [chip(style, f"{mark} {word}")]
    notes += [chip("", verdict.judge)] if verdict.judge else []
    notes += [chip("", f"${verdict.cost:.4f}")] if verdict.cost else []
    body = _text(verdict.rationale or None, "The judge gave no rationale.")
    return _panel(2, "judge", "Perception judge", notes, body)


def _render_answer(case: Case) -> Markup:
    style, mark, word = OUTCOME_WORDS[outcome_of(case)]
    notes = [chip(style, f"{mark} {word}")]
    notes += [] if case.accuracy is None else [chip("", f"accuracy {case.accuracy:.2f}")]
    given = case.trace.answer
    body = Markup(
        '<p class="exchange"><span><small>answered</small><b>{}</b></span>'
        '<span class="arrow" aria-hidden="true">→</span>'
        "<span><small>reference</small><b>{}</b></span></p>"
    ).format(given if given is not None else "no readable answer", case.question.answer or "none")
    return _panel(4, "answer", "Answer", notes, body)


def _render_responses(title: str, rows: Sequence[Row], selected: str) -> Markup:
    if not rows:
        return Markup("")

    def number(value: float | None, sign: str = "") -> str:
        return "–" if value is None else f"{value:{sign}.2f}"

    body = join(
        Markup(
            '<tr aria-current="{}"><td><a href="{}" data-action="open" data-case="{}">{}</a></td>'
            "<td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
            '<td class="said">{}</td></tr>'
        ).format(
            "true" if row["id"] == selected else "false",
            case_link(row["id"]),
            row["id"],
            _name_response(row),
            mark_chip(VERDICT_WORDS[row["verdict"]], "observation"),
            mark_chip(OUTCOME_WORDS[row["outcome"]], "answer"),
            number(row["perception_reward"]),
            number(row["reasoning_reward"]),
            number(row["perception_advantage"], "+"),
            number(row["reasoning_advantage"], "+"),
            "–" if row["trace.completion_tokens"] is None else row["trace.completion_tokens"],
            shorten(row["trace.answer"] or "–", 60),
        )
        for row in rows
    )
    return Markup(
        '<section class="responses"><h3>{}</h3><div class="scroll" tabindex="0" role="region" '
        'aria-label="{}"><table><thead><tr><th>response</th><th colspan="2">judged</th>'
        "<th>R<sub>P</sub></th><th>R<sub>R</sub></th><th>A<sub>P</sub></th><th>A<sub>R</sub></th>"
        "<th>tokens</th><th>answer</th></tr></thead><tbody>{}</tbody></table></div></section>"
    ).format(title, title, body)


def _name_response(row: Row) -> str:
    step = "" if row["trace.step"] is None else f" step {row['trace.step']}"
    return f"{row['trace.run']} {row['trace.stage']}{step} #{row['trace.rollout']}".strip()


def _render_raw(case: Case) -> Markup:
    opened = Markup("open") if case.trace.problems else ""
    return Markup(
        "<details {}><summary>The whole response</summary><pre>{}</pre></details>"
    ).format(opened, case.trace.text)


def _render_making(case: Case) -> Markup:
    q, t = case.question, case.trace
    facts = {
        "case": case.id,
        "question": q.id,
        "media file": q.path,
        "model": t.model,
        "run": t.run,
        "stage": t.stage,
        "step": t.step,
        "rollout": t.rollout,
        "prompt tokens": t.prompt_tokens,
        "completion tokens": t.completion_tokens,
        "of them perception": t.perception_tokens,
        "sampling": t.sampling,
        "media": t.media,
        "judge's usage": case.verdict.usage if case.verdict else None,
        "question's own fields": q.meta,
    }
    rows = join(
        Markup("<dt>{}</dt><dd>{}</dd>").format(name, _fact(value))
        for name, value in facts.items()
        if value not in (None, "", {})
    )
    return Markup("<details><summary>How it was made</summary><dl>{}</dl></details>").format(rows)


def _fact(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return join(
        (
            Markup("<span><small>{}</small> {}</span>").format(
                name, item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
            )
            for name, item in value.items()
        ),
        " ",
    )
