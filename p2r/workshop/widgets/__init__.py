"""The widgets of the notebooks. Each makes one idea obvious; a cell that ends with one shows it.

from p2r.workshop import widgets
widgets.group_credit()
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from p2r.judges import make_judge
from p2r.plots import NotebookFigure, contact_sheet
from p2r.records import Question, Verdict
from p2r.template import render
from p2r.video import sample_frames
from p2r.workshop.widgets import pictures
from p2r.workshop.widgets.live import LiveCurves, watch
from p2r.workshop.widgets.panel import Panel, Picture, slider
from p2r.workshop.widgets.pictures import Detail, Event

__all__ = [
    "LiveCurves",
    "Panel",
    "Picture",
    "frame_budget",
    "group_credit",
    "judge_noise",
    "length_range",
    "player",
    "trace_editor",
    "watch",
]

EVENTS: tuple[Event, ...] = (
    ("door opens", 2.0, 5.0),
    ("glance", 9.1, 9.6),
    ("ball passes", 14.2, 15.0),
    ("light flashes", 21.3, 21.5),
)
LARGEST_VIDEO = 20_000_000  # bytes of a file that a notebook may contain
DETAILS: tuple[Detail, ...] = (("face", 90), ("jersey number", 30), ("street sign", 14))


def frame_budget(
    duration: float = 30.0,
    size: tuple[int, int] = (720, 1280),
    events: Sequence[Event] = EVENTS,
    details: Sequence[Detail] = DETAILS,
) -> Panel:
    """Choose frames and resolution; see the tokens, and what is seen and missed."""
    draw = partial(
        pictures.frame_budget, duration=duration, size=size, events=events, details=details
    )
    controls = {
        "frames": slider(ipywidgets.IntSlider, 8, 2, 64, "frames", step=2),
        "blocks": slider(ipywidgets.IntSlider, 128, 16, 512, "28 × 28 blocks per frame", step=16),
    }
    return Panel(draw, controls)


def group_credit(rewards: Sequence[Sequence[float]] = ((1, 1), (1, 0), (0, 1), (0, 0))) -> Panel:
    """Drag the rewards of a group; see the advantages under each credit scheme."""
    controls = {}
    for number, row in enumerate(rewards, 1):
        for process, value in zip(("perception", "reasoning"), row, strict=True):
            label = f"rollout {number}, {process}"
            controls[f"{process}_{number}"] = slider(
                ipywidgets.FloatSlider, value, 0.0, 2.2, label, step=0.1
            )

    def draw(**state: float) -> Picture:
        values = list(state.values())
        return pictures.group_credit(list(zip(values[::2], values[1::2], strict=True)))

    return Panel(draw, controls)


def judge_noise() -> Panel:
    """Choose the error rate of a judge; see the noise of the reward and the collapsed groups."""
    controls = {
        "error": slider(ipywidgets.FloatSlider, 0.1, 0.0, 0.5, "error rate", step=0.01),
        "true_share": slider(
            ipywidgets.FloatSlider, 0.7, 0.02, 0.98, "sufficient in truth", step=0.02
        ),
        "group_size": slider(ipywidgets.IntSlider, 8, 2, 16, "rollouts of a group"),
    }
    return Panel(pictures.judge_noise, controls)


def length_range(
    lengths: Sequence[int], right: Sequence[bool], chosen: tuple[int, int] = (20, 80)
) -> Panel:
    """Choose the range of lengths that earns a bonus; see which responses earn it."""
    most = max(*lengths, chosen[1]) + 20
    label = "length range"
    controls = {"length_range": slider(ipywidgets.IntRangeSlider, chosen, 0, most, label)}
    return Panel(partial(pictures.length_reward, lengths=lengths, right=right), controls)


def trace_editor(question: Question, tokenizer: Any = None, judge: str = "oracle") -> Panel:
    """Edit a response; see its parts, the process of every token and the verdict at once."""
    judging = make_judge(judge)

    def verdict(asked: Question, observation: str) -> Verdict:
        return judging.judge([asked], [observation])[0]

    tokenize = pictures.split_text if tokenizer is None else pictures.tokenizer_pieces(tokenizer)
    response = render("I see nothing yet.", "So I guess.", question.answer)
    controls = {
        "response": ipywidgets.Textarea(
            value=response,
            description="response",
            layout={"width": "50em", "height": "8em"},
        )
    }
    draw = partial(pictures.read_trace, question=question, tokenize=tokenize, judge=verdict)
    return Panel(draw, controls)


def player(clip: str | Path, **settings: Any) -> Panel:
    """Show a video next to the frames that a model would see of it.

    `settings` are arguments of `p2r.video.sample_frames`; `max_frames` is where the slider starts.
    """
    path = Path(clip)
    video = _video_tag(path)

    def draw(frames: int) -> Picture:
        sampled = sample_frames(path, **(settings | {"max_frames": frames}))
        sheet = contact_sheet(sampled)
        png = io.BytesIO()
        sheet.save(png, "PNG")
        source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
        figure = NotebookFigure(go.Image(source=source))
        figure.update_xaxes(visible=False).update_yaxes(visible=False)
        height = round(sheet.height * min(1.5, 880 / sheet.width))
        margin = {"l": 0, "r": 0, "t": 0, "b": 0}
        figure.update_layout(height=height, margin=margin, template="none")
        times = ", ".join(f"{time:.2f}" for time in sampled.timestamps)
        text = f"The model sees {len(sampled)} frames, at {times} s. It sees nothing between them."
        return Picture(figure, text, video)

    start = settings.get("max_frames", 8)
    return Panel(draw, {"frames": slider(ipywidgets.IntSlider, start, 1, 32, "frames")})


def _video_tag(path: Path) -> str:
    """Return a video player as HTML. The file is part of it, so a large one is left out."""
    if path.stat().st_size > LARGEST_VIDEO:
        return f"<p>{escape(path.name)} is too large for this notebook: open it in a player.</p>"
    encoded = base64.b64encode(path.read_bytes()).decode()
    kind = {".webm": "webm", ".ogv": "ogg"}.get(path.suffix.lower(), "mp4")
    return f'<video controls loop width="280" src="data:video/{kind};base64,{encoded}"></video>'
