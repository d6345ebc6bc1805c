"""Exports chosen cases as a static site: a folder that opens from disk, without a server.

Every page is one file: frames, clip, style and script are inside, and the page forbids requests. So
a site can be mailed, put on any web server, or opened in a seminar room without a network.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from p2r.browser.address import MAX_ITEMS
from p2r.browser.banner import explain
from p2r.browser.case_page import STYLE
from p2r.browser.gallery_view import choose_various
from p2r.browser.library import Library
from p2r.browser.markup import render
from p2r.browser.media_view import small_uri
from p2r.browser.stage_view import count_stages
from p2r.browser.study_view import Study, render_study, study_of
from p2r.browser.theme import read_static
from p2r.browser.words import CELLS
from p2r.cases.selection import Filters
from p2r.errors import DataError, UserError
from p2r.files.atomic import replacing

# A page is about so large: the clip is left out if the page would become larger.
PAGE_BYTES = 500_000
MOST_FRAMES = 16
_CHOSEN_PER_CELL = 2
_SCRIPT = read_static("evidence.js")
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()


@dataclass(frozen=True)
class Story:
    """An ordered list of cases with notes: (case, note)."""

    title: str
    items: Sequence[tuple[str, str]]

    def to_json(self) -> str:
        """Return the content of a story file."""
        cases = [{"case": case, "note": note} for case, note in self.items]
        return json.dumps({"title": self.title, "cases": cases}, ensure_ascii=False, indent=1)


def read_story(file: Path) -> Story:
    """Read a story file. Raises `DataError` if it is not one."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        items = [(str(row["case"]), str(row.get("note", ""))) for row in data["cases"]]
        return Story(str(data.get("title", "")), items)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{file} is not a story: it needs a title and cases, each with a case and a note"
        ) from error


def choose_story(library: Library) -> Story:
    """Return a story of instructive cases: some of each cell of the 2 x 2 table."""
    items: list[tuple[str, str]] = []
    for verdict, outcome in CELLS:
        filters = Filters(verdict=verdict, outcome=outcome, fault=False)
        rows = choose_various(library.store.page(filters, limit=60), _CHOSEN_PER_CELL)
        items += [(row["id"], "") for row in rows]
    return Story("Right for the right reason?", items)


def export_site(library: Library, story: Story, folder: Path) -> int:
    """Write the site of a story into a folder; return the number of its cases.

    Raises `UserError` for a folder that holds other files, and the errors of `site_pages`.
    """
    check_export(library, story, folder)
    pages = dict(site_pages(library, story))
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages.items():
        with replacing(folder / name) as file:
            file.write(page)
    return len(pages) - 1


def check_export(library: Library, story: Story, folder: Path) -> None:
    """Raise the errors of `export_site` that can be known before a page is made."""
    if folder.exists() and any(file.suffix != ".html" for file in folder.iterdir()):
        raise UserError(f"{folder} holds other files: export into a new folder")
    _check_story(story)
    for case, _ in story.items:
        library.store.run_of(case)


def zip_site(library: Library, story: Story) -> bytes:
    """Return the site of a story as a zip file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, page in site_pages(library, story):
            archive.writestr(f"story/{name}", page)
    return content.getvalue()


def check_length(story: Story) -> None:
    """Raise `UserError` for a story with too many cases."""
    if len(story.items) > MAX_ITEMS:
        raise UserError(f"a story holds at most {MAX_ITEMS} cases: remove some of its cases")


def _check_story(story: Story) -> None:
    if not story.items:
        raise UserError("the story has no cases: add cases to the story")
    check_length(story)


def site_pages(library: Library, story: Story) -> Iterator[tuple[str, str]]:
    """Yield (name, content) of the pages of a site.

    Raises `StoreError` for an unknown case, `UserError` for a story without cases or with too many.
    """
    _check_story(story)
    studies = [study_of(library, library.store.get(case), note) for case, note in story.items]
    title = story.title or "Case studies"
    cards = []
    for number, study in enumerate(studies, 1):
        name = f"case-{number:02d}.html"
        cards.append((name, study, explain(study.case), _thumb(study)))
        links = {
            "before": f"case-{number - 1:02d}.html" if number > 1 else "",
            "after": f"case-{number + 1:02d}.html" if number < len(studies) else "",
            "place": f"{number} of {len(studies)}",
        }
        yield name, _page(title, _render(library, study), links)
    stages = [stage for stage in count_stages(library.store.tally()) if stage.known]
    body = render("site_index.html", title=title, cards=cards, stages=stages[:8])
    yield "index.html", _page(title, body, {})


def _render(library: Library, study: Study) -> Markup:
    frames = study.frames
    if frames is not None and len(frames) > MOST_FRAMES:
        places = [round(n * (len(frames) - 1) / (MOST_FRAMES - 1)) for n in range(MOST_FRAMES)]
        note = f"{MOST_FRAMES} of {len(frames)} frames are shown. {frames.note}"
        frames = replace(
            frames,
            frames=frames.frames[places],
            timestamps=[frames.timestamps[place] for place in places],
            indices=[frames.indices[place] for place in places],
            note=note,
        )
    study = replace(study, frames=frames)
    page = render_study(study, standalone=True, uri=small_uri)
    clip = _clip(library, study)
    if clip and len(page) + len(clip) <= PAGE_BYTES:
        page = render_study(replace(study, clip=clip), standalone=True, uri=small_uri)
    return page


def _clip(library: Library, study: Study) -> str:
    """Return a small clip as a data URI; "" if there is none or it is too large."""
    try:
        file = library.find_media(study.case)
        if study.case.question.data_type == "image" or file.stat().st_size > PAGE_BYTES * 3 // 4:
            return ""
        kind = {"webm": "webm", "mov": "mp4"}.get(file.suffix[1:].lower(), "mp4")
        return f"data:video/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
    except (ValueError, OSError):
        return ""


def _thumb(study: Study) -> str:
    frames = study.frames
    return "" if frames is None else small_uri(frames.frames[len(frames) // 2])


def _page(title: str, body: Markup, links: dict[str, str]) -> str:
    return str(
        render(
            "site_page.html",
            title=title,
            body=body,
            links=links,
            style=Markup(STYLE),
            script=Markup(_SCRIPT),
            script_hash=_HASH,
        )
    )
