"""The label form of a case, and the labels of others once the visitor may see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.markup import chip, join, options, prose, visible
from p2r.cases.labels import MAX_COMMENT, MAX_NAME, CaseLabel
from p2r.cases.selection import FAILURES

SUFFICIENT = {"yes": "sufficient", "no": "not sufficient", "unknown": "cannot say"}
_WORDS = {True: "yes", False: "no", None: "unknown"}


def render_label(
    view: View, case_id: str, annotator: str, labels: Sequence[CaseLabel], following: str | None
) -> Markup:
    """Return the form of a case for one annotator, with all labels if they may be shown.

    `following`: the next case of the sample that this annotator has not labelled.
    """
    mine = next((label for label in labels if label.annotator == annotator), None)
    secret = view.blind and mine is None
    kinds = [("", "no kind"), *((kind, kind) for kind in FAILURES)]
    kind = Markup("")
    if not secret:
        kind = Markup('<label>what went wrong<select name="failure">{}</select></label>').format(
            options(kinds, mine.failure if mine else "")
        )
    choices = join(
        Markup(
            '<label class="radio"><input type="radio" name="sufficient" value="{}" id="label-{}" '
            "required{}><span>{}</span></label>"
        ).format(
            value,
            value,
            Markup(" checked") if mine and _WORDS[mine.sufficient] == value else "",
            word,
        )
        for value, word in SUFFICIENT.items()
    )
    others = Markup("")
    if labels and not secret:
        others = Markup('<ul class="labels">{}</ul>').format(join(map(_render_one, labels)))
    toggle = Markup('<a class="button" href="{}" data-go{}>blind mode: {}</a>')
    return Markup(
        '<section class="card" id="label"><h3>My label <span class="notes">{}</span></h3>'
        '<form data-label data-case="{}" data-blind="{}"><fieldset class="choices"><legend>Is the '
        "observation sufficient to give the reference answer?</legend>{}</fieldset>"
        '<div class="fields">{}<label class="wide">comment<input name="comment" maxlength="{}" '
        'value="{}" autocomplete="off"></label><label>my name<input name="annotator" maxlength="{}"'
        ' required value="{}" autocomplete="nickname"></label></div><p class="row">'
        '<button type="submit" class="button primary">Save label</button>'
        '<span class="label-said" role="status"></span>{}</p></form>{}</section>'
    ).format(
        toggle.format(
            replace(view, blind=not view.blind).link(),
            Markup(' aria-current="true"') if view.blind else "",
            "on" if view.blind else "off",
        ),
        case_id,
        "1" if secret else "",
        choices,
        kind,
        MAX_COMMENT,
        mine.comment if mine else "",
        MAX_NAME,
        annotator,
        _render_following(view, following),
        others,
    )


def _render_following(view: View, following: str | None) -> Markup:
    if following is None:
        return Markup("")
    return Markup(
        '<a class="button" id="next-to-label" href="{}" data-go>next case to label ›</a>'
    ).format(view.link(case=following))


def _render_one(label: CaseLabel) -> Markup:
    word = SUFFICIENT[_WORDS[label.sufficient]]
    style = {True: "good", False: "bad", None: "unknown"}[label.sufficient]
    notes = [chip(style, word)]
    notes += [chip("", label.failure)] if label.failure else []
    notes += [chip("", "blind")] if label.blind else []
    comment = prose(label.comment, "") if label.comment else Markup("")
    return Markup('<li><b dir="auto">{}</b> {} {}</li>').format(
        visible(label.annotator), join(notes), comment
    )


def read_label(data: object) -> CaseLabel:
    """Read a label that a page sent. Raises ValueError for anything else."""
    if not isinstance(data, dict):
        raise ValueError("a label must be a JSON object")
    words = {word: value for value, word in _WORDS.items()}
    if not isinstance(data.get("sufficient"), str) or data["sufficient"] not in words:
        raise ValueError("choose whether the observation is sufficient: yes, no or unknown")
    texts = {name: data.get(name, "") for name in ("case", "annotator", "failure", "comment")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("case, annotator, failure and comment of a label must be texts")
    return CaseLabel(**texts, sufficient=words[data["sufficient"]], blind=bool(data.get("blind")))
