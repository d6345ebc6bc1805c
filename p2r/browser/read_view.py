"""The open case: question, media, the four panels, credit of every token, label, facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.banner import explain
from p2r.browser.credit_view import Credit, GroupCredit, case_credits, render_tokens
from p2r.browser.evidence import Sentence, find_ground, read_observation, read_reasoning
from p2r.browser.markup import CaseRow, describe_case, describe_making, render, visible
from p2r.records import Case
from p2r.scoring.answers import extract_choice


@dataclass(frozen=True)
class OpenCase:
    """A case with its group, other responses to its question, and its label form.

    `secret`: the visitor works in blind mode and has not labelled this case yet. `truth`: whether
    the observation is true ("unknown" if the scene is not known).
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
    truth: str = "unknown"
    read_only: bool = False


def render_missing(case_id: str, reason: str) -> Markup:
    """Return a message in place of a case that cannot be shown."""
    return Markup('<article class="case" data-case="{}"><p class="empty">{}</p></article>').format(
        case_id, visible(reason)
    )


def render_case(view: View, opened: OpenCase) -> Markup:
    """Return the complete page of a case."""
    case = opened.case
    sentences = read_observation(case.question, case.trace.observation)
    rationale = case.verdict.rationale if case.verdict else ""
    usage = case.verdict.usage if case.verdict and not opened.secret else None
    # Chosen sides stay if this case is on one of them. Without sides, the page proposes some.
    sides = view.sides if (case.trace.run, case.trace.stage) in view.sides else ()
    ids = [row["id"] for row in opened.group]
    at = ids.index(case.id) if case.id in ids else 0
    return render(
        "case.html",
        view=view,
        opened=opened,
        about=describe_case(case),
        banner=explain(case),
        read_only=opened.read_only,
        sentences=sentences,
        hidden_seen=_without_truth(sentences),
        steps=read_reasoning(case.trace.think, sentences),
        judged_on=find_ground(rationale, sentences),
        scheme=opened.credit.scheme if opened.credit else "",
        compare=view.link(tab="compare", question=case.question.id, sides=sides, case=case.id),
        save="" if opened.secret else urlencode({"case": case.id}),
        options=mark_options(case, opened.secret),
        making=describe_making(case)
        | {"usage of the judge": usage, "fields of the question": _fields_of(opened)},
        unscored=case.model_copy(update={"perception": None, "perception_advantage": None}),
        tokens="" if opened.secret else _render_credit(opened),
        collapsed=opened.credit.names_collapsed() if opened.credit else [],
        previous=view.link(case=ids[at - 1]) if at else None,
        following=view.link(case=ids[at + 1]) if at + 1 < len(ids) else None,
    )


def mark_options(case: Case, secret: bool = False) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the options, each with marks (style, word) if it is the reference or was answered."""
    options = case.question.options
    truth = extract_choice(case.question.answer, options)
    given = None if secret else extract_choice(case.trace.answer, options)
    marked = []
    for index, option in enumerate(options):
        letter = extract_choice(option, options) or chr(ord("A") + index)
        marks = [("good", "reference")] if letter == truth else []
        if letter == given:
            marks.append(("good" if given == truth else "bad", "answered"))
        marked.append((option, marks))
    return marked


def _render_credit(opened: OpenCase) -> Markup:
    """Return the credit of the response, and its tokens."""
    case = opened.case
    given = Credit(case.perception_advantage, case.reasoning_advantage)
    credits = case_credits(opened.credit, case.id, given)
    return render_tokens(case.trace, opened.tokenizer, credits)


def _without_truth(sentences: Sequence[Sentence]) -> Markup | None:
    """Return the observation without the marks of truth, for blind mode; None without sentences."""
    if not sentences:
        return None
    plain = [replace(sentence, truth="unknown", instead="") for sentence in sentences]
    return render("observed.html", sentences=plain)


def _fields_of(opened: OpenCase) -> dict[str, Any]:
    """Return the other fields of the question. The scene is left out in blind mode."""
    fields = opened.case.question.meta
    return {k: v for k, v in fields.items() if k != "scene"} if opened.secret else fields
