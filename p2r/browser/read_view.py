"""The open case: question, media, the four panels, credit of every token, label, facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from p2r.browser.address import Side, View
from p2r.browser.credit_view import Credit, GroupCredit, render_tokens
from p2r.browser.markup import (
    MEANINGS,
    OUTCOME_WORDS,
    VERDICT_WORDS,
    CaseRow,
    chip,
    describe_case,
    describe_making,
    join,
    mark_chip,
    number,
    outcome_of,
    prose,
    shorten,
    verdict_of,
    visible,
)
from p2r.browser.panels_view import (
    render_answer,
    render_fact,
    render_observation,
    render_reasoning,
    render_verdict,
    whole_text,
)
from p2r.records import Case
from p2r.scoring.answers import extract_choice


@dataclass(frozen=True)
class OpenCase:
    """A case with its group, other responses to its question, and its label form.

    `secret`: the visitor works in blind mode and has not labelled this case yet.
    """

    case: Case
    media: Markup
    group: Sequence[CaseRow]
    credit: GroupCredit | None
    others: Sequence[CaseRow]
    others_total: int
    tokenizer: Any | None
    label: Markup
    secret: bool


def render_missing(case_id: str, reason: str) -> Markup:
    """Return a message in place of a case that cannot be shown."""
    return Markup('<article class="case" data-case="{}"><p class="empty">{}</p></article>').format(
        case_id, visible(reason)
    )


def render_case(view: View, opened: OpenCase) -> Markup:
    """Return the complete page of a case."""
    case = opened.case
    right = [render_observation(case)]
    below = [Markup("")]
    if opened.secret:
        hidden = Markup(
            '<section class="card hidden"><h3>Verdict, rewards and answer are hidden</h3><p>You '
            "work in blind mode. Label the observation first; then they are shown.</p></section>"
        )
        right = [_plain_observation(case), opened.label, hidden]
    else:
        right += [
            render_verdict(case),
            render_reasoning(case),
            render_answer(case),
            _render_credit(opened),
            opened.label,
        ]
        below = [_render_rollouts(view, opened), _render_others(view, opened), _render_raw(case)]
    return Markup(
        '<article class="case" data-case="{}">{}<div class="columns"><div class="left">{}{}</div>'
        '<div class="right">{}</div></div>{}</article>'
    ).format(
        case.id,
        _render_header(view, opened),
        opened.media,
        _render_making(case, opened.secret),
        join(right),
        join(below),
    )


def _plain_observation(case: Case) -> Markup:
    bare = case.model_copy(update={"perception": None, "perception_advantage": None})
    return render_observation(bare)


def _render_header(view: View, opened: OpenCase) -> Markup:
    case = opened.case
    q, t = case.question, case.trace
    chips = [chip("", word) for word in describe_case(case)]
    if not opened.secret:
        chips += [chip("bad", f"format: {problem}") for problem in t.problems]
        chips += [chip("", tag) for tag in case.tags]
    chips += [chip("bad", "truncated")] if t.truncated else []
    long = len(q.problem) > 2000
    rest = prose(q.problem, "", whole_text(case, "problem")) if long else ""
    return Markup(
        '<header><div class="about-row"><p class="about">{}</p>{}</div>'
        '<h2 dir="auto">{}</h2>{}{}<p class="truth">reference answer <b dir="auto">{}</b></p>{}'
        "</header>"
    ).format(
        join(chips),
        _render_actions(view, case),
        shorten(q.problem, 300) if long else visible(q.problem),
        rest,
        _render_options(case, opened.secret),
        visible(q.answer[:2000]) or "none",
        "" if opened.secret else _render_headline(case),
    )


def _render_actions(view: View, case: Case) -> Markup:
    """Return the links to compare a case, to ask about it, and to save it."""
    t = case.trace
    compare = view.link(
        tab="compare", question=case.question.id, sides=sides_with((t.run, t.stage), view)
    )
    return Markup(
        '<p class="actions"><a class="button" id="compare-link" href="{}" data-go>compare '
        '<kbd>c</kbd></a><a class="button" href="{}" data-go>ask about it</a>'
        '<a class="button" href="p2r/case.html?{}" download>save page</a></p>'
    ).format(
        compare,
        view.link(tab="ask"),
        urlencode({"case": case.id, **({"blind": "1"} if view.blind else {})}),
    )


def sides_with(side: Side, view: View) -> tuple[Side, ...]:
    """Return the chosen sides if this one is among them; without sides the page proposes some."""
    return view.sides if side in view.sides else ()


def _render_headline(case: Case) -> Markup:
    verdict, outcome = verdict_of(case), outcome_of(case)
    seen, said = VERDICT_WORDS[verdict], OUTCOME_WORDS[outcome]
    meaning = MEANINGS.get((verdict, outcome))
    return Markup('<p class="headline">{} {} {}</p>').format(
        chip(f"big {seen[0]}", f"{seen[1]} observation: {seen[2]}"),
        chip(f"big {said[0]}", f"{said[1]} answer: {said[2]}"),
        Markup("<em>{}</em>").format(meaning) if meaning else "",
    )


def _render_options(case: Case, secret: bool) -> Markup:
    options = case.question.options
    if not options:
        return Markup("")
    truth = extract_choice(case.question.answer, options)
    given = None if secret else extract_choice(case.trace.answer, options)
    items = []
    for index, option in enumerate(options):
        letter = extract_choice(option, options) or chr(ord("A") + index)
        marks = []
        if letter == truth:
            marks.append(chip("good", "reference"))
        if letter == given:
            marks.append(chip("good" if given == truth else "bad", "answered"))
        items.append(
            Markup('<li dir="auto">{} {}</li>').format(visible(option[:2000]), join(marks))
        )
    return Markup('<ul class="options">{}</ul>').format(join(items))


def _render_credit(opened: OpenCase) -> Markup:
    """Return the tokens with the recorded advantages, or those computed from the group."""
    case, group = opened.case, opened.credit
    given = Credit(case.perception_advantage, case.reasoning_advantage)
    if given == Credit(None, None) and group is not None:
        given = group.of(case.id, "process") or given
    grpo = group.of(case.id, "outcome") if group else None
    return render_tokens(case.trace, opened.tokenizer, given, grpo)


def _render_rollouts(view: View, opened: OpenCase) -> Markup:
    """Return the group as a table, with links to its rollouts and the collapsed processes."""
    rows = opened.group
    if len(rows) < 2:
        return Markup("")
    ids = [row["id"] for row in rows]
    at = ids.index(opened.case.id) if opened.case.id in ids else 0

    def step(name: str, place: int, content: Markup) -> Markup:
        if not 0 <= place < len(ids):
            return Markup('<span class="button off" id="{}">{}</span>').format(name, content)
        return Markup('<a class="button" id="{}" href="{}" data-go="step">{}</a>').format(
            name, view.link(case=ids[place]), content
        )

    flat = [
        p for p, is_flat in (opened.credit.collapsed if opened.credit else {}).items() if is_flat
    ]
    notes = [chip("warn", f"{process} collapsed") for process in flat]
    first = rows[0]
    more = Markup('<a class="button" href="{}" data-go>credit of the group</a>').format(
        view.link(tab="groups")
    )
    return Markup(
        '<section class="card responses" data-question="{}"><h3>Rollouts of this question '
        '<span class="notes">{}{}{}{}</span></h3>{}</section>'
    ).format(
        first["question.id"],
        join(notes),
        step("previous-rollout", at - 1, Markup("<kbd>[</kbd>")),
        step("next-rollout", at + 1, Markup("<kbd>]</kbd>")),
        more if opened.credit else "",
        render_responses("rollouts of this question", view, rows, opened.case.id),
    )


def _render_others(view: View, opened: OpenCase) -> Markup:
    if not opened.others:
        return Markup("")
    cut = opened.others_total > len(opened.others)
    note = f" (the first {len(opened.others)} of {opened.others_total:,})" if cut else ""
    return Markup(
        '<section class="card responses"><h3>Other responses to this question{}</h3>{}</section>'
    ).format(
        note,
        render_responses("other responses to this question", view, opened.others, opened.case.id),
    )


def render_responses(title: str, view: View, rows: Sequence[CaseRow], selected: str) -> Markup:
    """Return responses as a table: verdict, outcome, rewards, advantages, length, answer."""
    body = join(
        Markup(
            '<tr {}><td><a href="{}" data-go>{}</a></td><td>{}</td><td>{}</td><td>{}</td>'
            "<td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
            '<td class="said" dir="auto">{}</td></tr>'
        ).format(
            Markup('aria-current="true"') if row["id"] == selected else "",
            view.link(case=row["id"]),
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
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table><thead><tr>'
        "<th>response</th><th>observation</th><th>answer</th><th>R<sub>P</sub></th>"
        "<th>R<sub>R</sub></th><th>A<sub>P</sub></th><th>A<sub>R</sub></th><th>tokens</th>"
        "<th>answered</th></tr></thead><tbody>{}</tbody></table></div>"
    ).format(title, body)


def _name_response(row: CaseRow) -> str:
    step = "" if row["trace.step"] is None else f" step {row['trace.step']}"
    return shorten(f"{row['trace.run']} {row['trace.stage']}{step} #{row['trace.rollout']}", 60)


def _render_raw(case: Case) -> Markup:
    opened = Markup("open") if case.trace.problems else ""
    return Markup(
        '<details class="card" id="raw" {}><summary>The full response</summary>{}</details>'
    ).format(opened, prose(case.trace.text, "", whole_text(case, "text")))


def _render_making(case: Case, secret: bool) -> Markup:
    facts = describe_making(case) | {
        "usage of the judge": case.verdict.usage if case.verdict and not secret else None,
        "fields of the question": case.question.meta,
    }
    rows = join(
        Markup("<dt>{}</dt><dd>{}</dd>").format(name, render_fact(value))
        for name, value in facts.items()
        if value not in (None, "", {})
    )
    return Markup(
        '<details class="card" id="making"><summary>How it was made</summary><dl>{}</dl></details>'
    ).format(rows)
