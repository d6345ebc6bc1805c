"""The case study: one case on one page, for a lecture, a paper or a story.

The page says why the case turned out as it did, and links every claim to its evidence. The page is
the same in the browser, in a saved file and in an exported site.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from p2r.browser.address import View
from p2r.browser.banner import Banner, explain
from p2r.browser.credit_view import GroupCredit, credit_group, render_group_credit
from p2r.browser.evidence import (
    Sentence,
    compare_with_scene,
    find_events,
    find_ground,
    read_observation,
    read_reasoning,
)
from p2r.browser.library import Library
from p2r.browser.markup import CaseRow, describe_case, describe_making, render
from p2r.browser.media_view import PIXELATED_BELOW, data_uri
from p2r.browser.words import stage_place
from p2r.cases.selection import LISTED, Filters
from p2r.records import Case
from p2r.video import Frames

_RESPONSES = 400


@dataclass(frozen=True)
class Study:
    """Everything on the page of a case study.

    `others`: responses of other stages to the same question, one each. `note`: what the author of a
    story wrote. `clip`: the address of the video beside the page; "" for none.
    """

    case: Case
    frames: Frames | None = None
    no_frames: str = ""
    group: GroupCredit | None = None
    others: Sequence[CaseRow] = ()
    note: str = ""
    clip: str = ""
    permalink: str = ""


def study_of(library: Library, case: Case, note: str = "") -> Study:
    """Return the study of a case in a library."""
    frames, reason = None, ""
    try:
        frames = library.sample_frames(case)
    except (ValueError, OSError) as error:
        reason = getattr(error, "reason", str(error))
    return Study(
        case,
        frames,
        reason,
        credit_group(library.group(case)),
        list_others(library, case),
        note,
        permalink=View(case=case.id).link(),
    )


def list_others(library: Library, case: Case) -> list[CaseRow]:
    """Return one response of every other stage to the question of a case, from base to PA-GRPO."""
    rows = library.store.page(
        Filters(question_id=(case.question.id,)),
        "trace.step",
        descending=True,
        limit=_RESPONSES,
        columns=[*LISTED, "trace.observation"],
    )
    own = (case.trace.run, case.trace.stage)
    first: dict[tuple[str, str], CaseRow] = {}
    for row in rows:
        side = (row["trace.run"], row["trace.stage"])
        if side != own and row["question.problem"][:200] == case.question.problem[:200]:
            first.setdefault(side, row)
    return sorted(first.values(), key=lambda row: stage_place(row["trace.stage"]))


def render_study(
    study: Study,
    view: View | None = None,
    standalone: bool = False,
    uri: Callable[[Any], Markup] = data_uri,
) -> Markup:
    """Return the page of a case study. Without a `view` it has no links.

    `standalone`: the page is outside the browser and names its permalink as text only. `uri`
    returns a frame as a data URI.
    """
    case = study.case
    observation = read_observation(case.question, case.trace.observation)
    rationale = case.verdict.rationale if case.verdict else ""
    advantages = {
        "advantage of perception": case.perception_advantage,
        "advantage of reasoning": case.reasoning_advantage,
    }
    return render(
        "study.html",
        study=study,
        case=case,
        view=view,
        standalone=standalone,
        banner=explain(case),
        about=[
            *describe_case(case),
            *(f"format: {problem}" for problem in case.trace.problems),
            *["truncated"] * case.trace.truncated,
        ],
        observation=observation,
        reasoning=read_reasoning(case.trace.think, observation),
        scene=compare_with_scene(case.question, observation),
        judged_on=find_ground(rationale, observation)
        or find_ground(f"{case.question.problem} {case.question.answer}", observation),
        marks=find_marks(study, observation),
        making=describe_making(case) | advantages,
        picture=render_group_credit(study.group, case.id, view, False) if study.group else "",
        data_uri=uri,
        pixelated_below=PIXELATED_BELOW,
    )


@dataclass(frozen=True)
class Mark:
    """A point of the track below the frames: place in percent, time, kind and words."""

    place: float
    time: float
    kind: str
    words: str


def find_marks(study: Study, observation: Sequence[Sentence]) -> list[Mark]:
    """Return the events of the scene and the times that the observation names, on one track."""
    recorded = study.case.trace.media.get("duration")
    duration = recorded if isinstance(recorded, int | float) else 0
    if study.frames is not None:
        duration = max(study.frames.timestamps[-1], duration)
    if duration <= 0:
        return []
    events = [(time, "event", text) for time, text in find_events(study.case.question)]
    claims = [(time, "claim", s.text) for s in observation for time in s.times]
    return [
        Mark(100 * time / duration, time, kind, words)
        for time, kind, words in [*events, *claims]
        if 0 <= time <= duration
    ]


def title_of(banner: Banner, case: Case) -> str:
    """Return the title of a case for the window and for lists."""
    return f"{banner.kind}: {case.question.problem}"


def story_rows(library: Library, view: View) -> list[dict[str, Any]]:
    """Return the cases of a story with their notes; a case that cannot be read has a `fault`."""
    rows: list[dict[str, Any]] = []
    for case_id, note in view.items:
        try:
            case = library.store.get(case_id)
        except ValueError as error:
            rows.append({"id": case_id, "note": note, "fault": str(error)})
            continue
        rows.append(
            {"id": case_id, "note": note, "fault": "", "case": case, "banner": explain(case)}
        )
    return rows
