"""One case as an HTML file of its own, for slides and papers: frames inside, no script, no request.

The words of a case are untrusted. They are escaped, their invisible characters are written out, and
the page forbids scripts and requests.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from markupsafe import Markup

from p2r.browser.markup import (
    OUTCOME_WORDS,
    VERDICT_WORDS,
    describe_case,
    describe_making,
    join,
    number,
    outcome_of,
    reward_sum,
    verdict_of,
    visible,
)
from p2r.browser.media_view import PIXELATED_BELOW, data_uri
from p2r.records import Case, ProcessReward

if TYPE_CHECKING:
    from p2r.video import Frames

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2026; --paper: #fff; --faint: #5a6472;
  --line: #d5dae1; --see: #0b6bcb; --think: #8a3ffc; --good: #11734b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebef; --paper: #15181d; --faint: #a3adba;
  --line: #363d47; --see: #7db8f7; --think: #c7a6ff; --good: #63d3a0; --bad: #ff9a92; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .5rem; }
h2 { font-size: 1rem; margin: 0 0 .25rem; }
h1, p, li, dd, pre { overflow-wrap: anywhere; white-space: pre-wrap; unicode-bidi: plaintext; }
.about, dt, figcaption, .notes { color: var(--faint); font-size: .85rem; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr));
  gap: .5rem; margin: 1rem 0; }
figure { margin: 0; } img { width: 100%; display: block; border-radius: 4px; }
img.small { image-rendering: pixelated; }
section { border-left: 4px solid var(--line); padding: .25rem 0 .25rem 1rem; margin: 1rem 0; }
section.see { border-color: var(--see); } section.think { border-color: var(--think); }
.good { color: var(--good); } .bad { color: var(--bad); } b { font-weight: 650; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .85rem; }
dd { margin: 0; } pre { font-size: .8rem; }
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{}</title>
<style>{}</style>
</head>
<body>
<main>
{}
</main>
</body>
</html>
"""


def case_page(case: Case, frames: Frames | None = None, no_frames: str = "") -> str:
    """Return a case as an HTML page: question, frames, the four panels, how it was made.

    `frames`: the frames that the model saw. Without them, `no_frames` is the reason.
    """
    question, trace = case.question, case.trace
    about = [*describe_case(case), *(f"format: {problem}" for problem in trace.problems)]
    about += ["truncated"] if trace.truncated else []
    options = join(Markup("<li>{}</li>").format(visible(option)) for option in question.options)
    parts = [
        Markup('<p class="about">{}</p>').format(visible(" · ".join(about))),
        Markup("<h1>{}</h1>").format(visible(question.problem)),
        Markup("<ul>{}</ul>").format(options),
        Markup("<p>reference answer: <b>{}</b></p>").format(visible(question.answer or "none")),
        _frames(frames, no_frames),
        _panel("see", "1 Observation", trace.observation, _reward("P", case.perception)),
        _verdict(case),
        _panel("think", "3 Reasoning", trace.think, _reward("R", case.reasoning)),
        _answer(case),
        _making(case),
    ]
    return str(Markup(_PAGE).format(visible(case.id), Markup(_STYLE), join(parts, "\n")))


def _frames(frames: Frames | None, reason: str) -> Markup:
    if frames is None:
        words = visible(reason or "they were not asked for")
        return Markup('<p class="notes">No frames: {}</p>').format(words)
    count, height, width = frames.shape[:3]
    shown = join(
        Markup(
            '<figure><img class="{}" src="{}" alt="frame {} of {}">'
            "<figcaption>{:.2f} s</figcaption></figure>"
        ).format("small" if width < PIXELATED_BELOW else "", data_uri(pixels), place, count, time)
        for place, (pixels, time) in enumerate(
            zip(frames.frames, frames.timestamps, strict=True), start=1
        )
    )
    return Markup(
        '<div class="frames">{}</div><p class="notes">The model saw {} frames of {} × {}. {}</p>'
    ).format(shown, count, width, height, visible(frames.note))


def _panel(style: str, title: str, text: str | None, notes: Markup) -> Markup:
    body = Markup('<p class="notes">not readable</p>')
    if text is not None:
        body = Markup("<p>{}</p>").format(visible(text))
    return Markup('<section class="{}"><h2>{}</h2>{}{}</section>').format(style, title, body, notes)


def _reward(process: str, reward: ProcessReward | None) -> Markup:
    words = reward_sum(process, reward)
    return Markup('<p class="notes">{}</p>').format(words) if words else words


def _result(words: tuple[str, str, str], more: str) -> Markup:
    style, mark, word = words
    return Markup('<p class="notes"><b class="{}">{} {}</b> {}</p>').format(style, mark, word, more)


def _verdict(case: Case) -> Markup:
    verdict = case.verdict
    if verdict is None:
        return _panel("judge", "2 Perception judge", "This observation was not judged.", Markup(""))
    notes = _result(VERDICT_WORDS[verdict_of(case)], visible(verdict.judge))
    return _panel("judge", "2 Perception judge", verdict.rationale, notes)


def _answer(case: Case) -> Markup:
    more = "" if case.accuracy is None else f"(accuracy {number(case.accuracy)})"
    notes = _result(OUTCOME_WORDS[outcome_of(case)], more)
    return _panel("think", "4 Answer", case.trace.answer, notes)


def _making(case: Case) -> Markup:
    facts = describe_making(case) | {
        "advantage of perception": case.perception_advantage,
        "advantage of reasoning": case.reasoning_advantage,
    }
    rows = join(
        Markup("<dt>{}</dt><dd>{}</dd>").format(
            name,
            visible(
                json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
            ),
        )
        for name, value in facts.items()
        if value not in (None, "", {})
    )
    return Markup("<h2>How it was made</h2><dl>{}</dl>").format(rows)
