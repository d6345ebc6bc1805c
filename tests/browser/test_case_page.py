"""The saved page of one case: hostile text stays text, and unknown values are named."""

import re
from html.parser import HTMLParser

import numpy as np
from case_records import make_case

from p2r.browser.case_page import study_page
from p2r.browser.study_view import Study
from p2r.records import ProcessReward, Verdict
from p2r.video import Frames

HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror=hacked=1>' onload='hacked=1\" "
    "</style></title><!-- ]]> &lt; ${x} {{y}}"
)


def case_page(case, frames=None, no_frames="") -> str:
    return study_page(Study(case, frames, no_frames))


def hostile_case():
    return make_case(
        1,
        question_id=HOSTILE,
        question_problem=HOSTILE,
        question_options=[HOSTILE],
        question_answer=HOSTILE,
        question_path=f"../../{HOSTILE}",
        question_source=HOSTILE,
        trace_text=HOSTILE,
        trace_observation=HOSTILE,
        trace_think=HOSTILE,
        trace_answer=HOSTILE,
        trace_model=HOSTILE,
        trace_run=HOSTILE,
        trace_problems=[HOSTILE],
        trace_sampling={HOSTILE: HOSTILE},
        trace_media={HOSTILE: [HOSTILE]},
        verdict=Verdict(sufficient=False, rationale=HOSTILE, judge=HOSTILE),
    )


class Seen(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def make_frames() -> Frames:
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    return Frames(pixels, [0.0, 0.5], [0, 1], 2.0, 1.0, 2, "pyav", HOSTILE, note=HOSTILE)


def test_hostile_text_stays_text_on_a_saved_page():
    page = case_page(hostile_case(), make_frames())
    seen = Seen(page)
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "iframe", "link", "a", "svg"})
    names = {name for _, attributes in seen.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    sources = [attributes["src"] for _, attributes in seen.tags if "src" in attributes]
    assert len(sources) == 2 and all(src.startswith("data:image/png;base64,") for src in sources)
    assert seen.text.count(HOSTILE) > 10
    assert "default-src 'none'" in page and "prefers-color-scheme: dark" in page
    assert not re.search(r"https?://", page)


def test_a_saved_page_names_unknown_and_missing_values():
    bare = make_case(1, verdict=None, accuracy=None, trace_observation=None, trace_think=None)
    text = Seen(case_page(bare, no_frames="there is no such file")).text
    for words in (
        "No frames: there is no such file",
        "was not judged",
        "not readable",
        "not scored",
    ):
        assert words in text
    scored = make_case(
        2,
        perception=ProcessReward(accuracy=1.0, format=1.0, length=0.2),
        reasoning=ProcessReward(accuracy=None, format=1.0, length=0.0),
    )
    text = Seen(case_page(scored)).text
    assert "2.20 = accuracy 1.00 + format 1.00 + length 0.20" in text
    assert "unknown = accuracy unknown" in text


def test_a_saved_page_does_not_cut_a_megabyte_of_text():
    case = make_case(1, trace_think="word " * 200_000 + "END", trace_observation="\u202e" * 1000)
    page = case_page(case)
    assert "END</p>" in page and "\u202e" not in page
