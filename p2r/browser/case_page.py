"""One case as a page of its own: frames inside, no script, no request, for slides and papers.

Every word of a case is untrusted: it is escaped, its unseen characters are written out, and the
page forbids scripts and requests besides.
"""

from __future__ import annotations

import base64
import io
import json
from html import escape
from typing import TYPE_CHECKING, Any

from p2r.cases.selection import RIGHT_ACCURACY
from p2r.files.safe_text import show_unseen
from p2r.records import Case, ProcessReward

if TYPE_CHECKING:
    from p2r.video import Frames

# Frames narrower than this are enlarged without smoothing and embedded without loss.
_PIXELATED_BELOW = 160
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


def case_page(case: Case, frames: Frames | None = None, no_frames: str = "") -> str:
    """The page of a case as HTML: question, frames, the four panels, how it was made.

    `frames`: what the model saw; without them `no_frames` says why.
    """
    question = case.question
    options = "".join(f"<li>{_text(option)}</li>" for option in question.options)
    parts = [
        f'<p class="about">{_text(_about(case))}</p>',
        f"<h1>{_text(question.problem)}</h1>",
        f"<ul>{options}</ul>" if options else "",
        f"<p>reference answer: <b>{_text(question.answer or 'none')}</b></p>",
        _frames(frames, no_frames),
        _panel("see", "1 Observation", case.trace.observation, _reward("P", case.perception)),
        _verdict(case),
        _panel("think", "3 Reasoning", case.trace.think, _reward("R", case.reasoning)),
        _answer(case),
        _making(case),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(case.id)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def frame_uri(pixels: Any) -> str:
    """An image (H, W, 3) of bytes as a data URI: small ones exactly (PNG), larger ones as JPEG."""
    from PIL import Image

    image, buffer = Image.fromarray(pixels), io.BytesIO()
    kind = "png" if image.width < _PIXELATED_BELOW else "jpeg"
    image.save(buffer, kind, **({"quality": 88} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _text(value: Any) -> str:
    return escape(show_unseen(str(value)))


def _about(case: Case) -> str:
    question, trace = case.question, case.trace
    words = [question.problem_type, question.data_type, question.source, trace.run, trace.stage]
    words += [] if trace.step is None else [f"step {trace.step}"]
    words += [f"rollout {trace.rollout}"] if trace.rollout else []
    words += [f"format: {problem}" for problem in trace.problems]
    words += ["truncated"] if trace.truncated else []
    return " · ".join(word for word in words if word)


def _frames(frames: Frames | None, reason: str) -> str:
    if frames is None:
        return f'<p class="notes">No frames: {_text(reason or "they were not asked for")}</p>'
    count, height, width = frames.shape[:3]
    style = ' class="small"' if width < _PIXELATED_BELOW else ""
    shown = "".join(
        f'<figure><img{style} src="{frame_uri(pixels)}" alt="frame {place} of {count}">'
        f"<figcaption>{time:.2f} s</figcaption></figure>"
        for place, (pixels, time) in enumerate(
            zip(frames.frames, frames.timestamps, strict=True), start=1
        )
    )
    return (
        f'<div class="frames">{shown}</div><p class="notes">What the model saw: {count} '
        f"frames of {width} × {height}. {_text(frames.note)}</p>"
    )


def _panel(style: str, title: str, text: str | None, notes: str = "") -> str:
    body = '<p class="notes">not readable</p>' if text is None else f"<p>{_text(text)}</p>"
    return f'<section class="{style}"><h2>{title}</h2>{body}{notes}</section>'


def _reward(process: str, reward: ProcessReward | None) -> str:
    if reward is None:
        return ""
    known = [
        "unknown" if part is None else f"{part:.2f}" for part in (reward.total, reward.accuracy)
    ]
    return (
        f'<p class="notes">R<sub>{process}</sub> {known[0]} = accuracy {known[1]} + format '
        f"{reward.format:.2f} + length {reward.length:.2f}</p>"
    )


def _verdict(case: Case) -> str:
    verdict = case.verdict
    if verdict is None:
        return _panel("judge", "2 Perception judge", "Nobody judged this observation.")
    style, word = {
        True: ("good", "✓ sufficient"),
        False: ("bad", "✗ not sufficient"),
        None: ("", "? no verdict"),
    }[verdict.sufficient]
    notes = f'<p class="notes"><b class="{style}">{word}</b> {_text(verdict.judge)}</p>'
    return _panel("judge", "2 Perception judge", verdict.rationale, notes)


def _answer(case: Case) -> str:
    accuracy = case.accuracy
    style, word = ("", "? not scored")
    if accuracy is not None:
        right = accuracy >= RIGHT_ACCURACY
        style, word = ("good", "✓ right") if right else ("bad", "✗ wrong")
        word += f" (accuracy {accuracy:.2f})"
    notes = f'<p class="notes"><b class="{style}">{word}</b></p>'
    return _panel("think", "4 Answer", case.trace.answer, notes)


def _making(case: Case) -> str:
    trace = case.trace
    facts = {
        "case": case.id,
        "media file": case.question.path,
        "model": trace.model,
        "tokens": trace.completion_tokens,
        "of them perception": trace.perception_tokens,
        "advantage of perception": case.perception_advantage,
        "advantage of reasoning": case.reasoning_advantage,
        "sampling": json.dumps(trace.sampling, ensure_ascii=False) if trace.sampling else None,
        "media": json.dumps(trace.media, ensure_ascii=False) if trace.media else None,
    }
    rows = "".join(
        f"<dt>{name}</dt><dd>{_text(value)}</dd>"
        for name, value in facts.items()
        if value not in (None, "")
    )
    return f"<h2>How it was made</h2><dl>{rows}</dl>"
