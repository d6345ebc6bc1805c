"""One case as a single HTML file for slides and papers: frames inside, no script, no request.

The words of a case are untrusted. They are escaped, their invisible characters are written out, and
the page forbids scripts and requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2r.browser.markup import describe_case, describe_making, render
from p2r.browser.media_view import PIXELATED_BELOW, data_uri
from p2r.records import Case

if TYPE_CHECKING:
    from p2r.video import Frames


def case_page(case: Case, frames: Frames | None = None, no_frames: str = "") -> str:
    """Return a case as an HTML page: question, frames, the four panels, how it was made.

    `frames`: the frames that the model saw. Without them, `no_frames` is the reason.
    """
    about = [*describe_case(case), *(f"format: {problem}" for problem in case.trace.problems)]
    advantages = {
        "advantage of perception": case.perception_advantage,
        "advantage of reasoning": case.reasoning_advantage,
    }
    page = render(
        "case_page.html",
        case=case,
        about=about + ["truncated"] * case.trace.truncated,
        making=describe_making(case) | advantages,
        frames=frames,
        no_frames=no_frames,
        data_uri=data_uri,
        pixelated_below=PIXELATED_BELOW,
    )
    return str(page)
