"""One case as a single HTML file for slides and papers: frames inside, no script, no request.

The words of a case are untrusted. They are escaped, their invisible characters are written out, and
the page forbids scripts and requests.
"""

from __future__ import annotations

import re

from markupsafe import Markup

from p2r.browser.markup import render
from p2r.browser.study_view import Study, render_study
from p2r.browser.theme import read_static


def make_style() -> str:
    """Return the style of pages outside the browser, in the reader's light or dark theme."""
    design = read_static("design.css")
    dark = re.search(r"\.dark \{(.*?)\}", design, re.DOTALL)
    themed = f"@media (prefers-color-scheme: dark) {{ :root {{ {dark[1]} }} }}" if dark else ""
    shared = (read_static(f"{name}.css") for name in ("base", "case", "pages", "study", "outside"))
    return "\n".join((design, themed, *shared))


STYLE = make_style()


def study_page(study: Study) -> str:
    """Return a case study, with its group and the other models' responses, as one HTML page."""
    body = render_study(study, standalone=True)
    return str(render("case_page.html", case=study.case, body=body, style=Markup(STYLE)))
