"""The label form of a case, and the labels of others once the visitor may see them."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.library import Progress
from p2r.browser.markup import render
from p2r.browser.words import FAILURE_WORDS
from p2r.cases.labels import MAX_COMMENT, MAX_NAME, CaseLabel
from p2r.cases.selection import FAILURES

SUFFICIENT = {"yes": "sufficient", "no": "not sufficient", "unknown": "cannot say"}
_WORDS = {True: "yes", False: "no", None: "unknown"}


def render_label(
    view: View, case_id: str, annotator: str, labels: Sequence[CaseLabel], progress: Progress
) -> Markup:
    """Return the form of a case for one annotator, with all labels if they may be shown."""
    mine = next((label for label in labels if label.annotator == annotator), None)
    return render(
        "label.html",
        view=view,
        case=case_id,
        annotator=annotator,
        labels=labels,
        progress=progress,
        mine=mine,
        secret=view.blind and mine is None,
        answers=SUFFICIENT,
        words=_WORDS,
        kinds=[("", "no kind"), *((kind, FAILURE_WORDS.get(kind, kind)) for kind in FAILURES)],
        max_comment=MAX_COMMENT,
        max_name=MAX_NAME,
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
