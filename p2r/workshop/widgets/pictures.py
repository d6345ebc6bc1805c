"""The pictures of the panels: pure functions from a state to a figure and a sentence.

Nothing is told by colour alone: marks differ in shape, bars in pattern, and cells hold numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from p2r.plots import COLOURS, DIVERGING, NotebookFigure
from p2r.plots.style import framed
from p2r.records import Question, Verdict
from p2r.rewards import CREDITS, collapsed, credit_advantages
from p2r.template import parse
from p2r.video import fit_size
from p2r.workshop.checks.functions import observed_share, signal, video_tokens
from p2r.workshop.checks.method import border
from p2r.workshop.widgets.panel import Picture

LEGIBLE = 7  # pixels that a letter or a small object needs
Event = tuple[str, float, float]  # name, start and end in seconds
Detail = tuple[str, int]  # name, size in pixels of the source


# ---- frames × resolution


def frame_budget(
    frames: int,
    blocks: int,
    duration: float,
    size: tuple[int, int],
    events: Sequence[Event],
    details: Sequence[Detail],
) -> Picture:
    """Show what a number of frames and a resolution cost, and what they miss.

    `blocks`: most blocks of 28 × 28 pixels of a frame. `size`: height and width of the source. An
    event is seen if a frame falls into it. A detail is legible if it has at least 7 pixels.
    """
    times = np.linspace(0, duration, frames).tolist()
    height, width = fit_size(*size, max_pixels=blocks * 28 * 28)
    tokens = video_tokens(frames, height, width)
    figure = NotebookFigure()
    figure.add_scatter(
        x=times, y=["frames"] * frames, mode="markers", name="sampled frame",
        marker={"symbol": "line-ns-open", "size": 18, "color": COLOURS[0]},
    )  # fmt: skip
    seen = [any(start <= time <= end for time in times) for _, start, end in events]
    for (name, start, end), found in zip(events, seen, strict=True):
        figure.add_scatter(
            x=[start, end],
            y=[name, name],
            mode="lines+markers+text",
            text=["", "seen" if found else "MISSED"],
            textposition="middle right",
            marker={"symbol": "circle" if found else "x", "size": 10},
            line={"color": COLOURS[2] if found else COLOURS[5], "width": 6},
            showlegend=False,
        )
    figure.update_xaxes(title="seconds", range=[-0.2, duration * 1.12])
    scale = height / size[0]
    legible = [name for name, pixels in details if pixels * scale >= LEGIBLE]
    blurred = [name for name, pixels in details if pixels * scale < LEGIBLE]
    missed = [name for (name, _, _), found in zip(events, seen, strict=True) if not found]
    text = (
        f"{frames} frames of {height} × {width} pixels cost {tokens} tokens. "
        f"Missed between frames: {', '.join(missed) or 'nothing'}. "
        f"Too small to read: {', '.join(blurred) or 'nothing'}; "
        f"readable: {', '.join(legible) or 'nothing'}."
    )
    return Picture(framed(figure, f"{tokens} tokens"), text)


# ---- rewards of a group → advantages


def group_credit(rewards: Sequence[Sequence[float]]) -> Picture:
    """Show the advantage of both parts of each rollout under each credit scheme.

    `rewards`: a row (perception, reasoning) per rollout of one group.
    """
    schemes = [scheme for scheme in CREDITS if scheme != "temporal"]
    size = len(rewards)
    advantages = {scheme: credit_advantages(scheme, rewards, size) for scheme in schemes}
    columns = [f"{scheme}<br>{part}" for scheme in schemes for part in ("observation", "rest")]
    values = np.concatenate([np.asarray(advantages[scheme]) for scheme in schemes], axis=1)
    bound = max(float(np.abs(values).max()), 1e-9)
    heat = go.Heatmap(
        z=values.round(3).tolist(),
        x=columns,
        y=[
            f"rollout {number}: {looked:g}, {thought:g}"
            for number, (looked, thought) in enumerate(rewards, 1)
        ],
        text=[[f"{value:+.2f}" for value in row] for row in values],
        texttemplate="%{text}",
        colorscale=DIVERGING,
        zmin=-bound,
        zmax=bound,
        showscale=False,
    )
    figure = framed(NotebookFigure(heat), "Advantage of observation and rest, by credit scheme")
    figure.update_yaxes(autorange="reversed")
    flat = np.asarray(collapsed(rewards, size), dtype=bool)[0]
    lost = [name for name, one in zip(("perception", "reasoning"), flat, strict=True) if one]
    disputed = [
        number
        for number, row in enumerate(np.asarray(advantages["process"]), 1)
        if row[0] * row[1] < 0
    ]
    text = (
        f"Collapsed: {' and '.join(lost) or 'neither process'}. "
        "PA-GRPO (process) pushes the two parts of a rollout in opposite directions for rollouts: "
        f"{', '.join(map(str, disputed)) or 'none'}."
    )
    return Picture(figure, text)


# ---- judge error rate → reward noise and collapsed groups


def judge_noise(error: float, true_share: float, group_size: int) -> Picture:
    """Show what a judge with errors does to the perception reward.

    `correlation` is the correlation of its verdicts with the truth; 1 is no noise, 0 is only noise.
    """
    errors = np.linspace(0, 0.5, 26)
    noise = [verdict_correlation(rate, true_share) for rate in errors]
    lost = [1 - signal(observed_share(true_share, rate), group_size) for rate in errors]
    figure = NotebookFigure()
    for name, series, dash, now in (
        ("correlation with the truth", noise, "solid", verdict_correlation(error, true_share)),
        (
            "collapsed groups",
            lost,
            "dash",
            1 - signal(observed_share(true_share, error), group_size),
        ),
    ):
        place = len(figure.data) // 2
        colour = COLOURS[place]
        figure.add_scatter(
            x=errors.tolist(), y=np.round(series, 4).tolist(), name=name, mode="lines",
            line={"color": colour, "dash": dash},
        )  # fmt: skip
        figure.add_scatter(
            x=[error], y=[round(float(now), 4)], mode="markers+text", text=[f"{now:.2f}"],
            textposition="top center", showlegend=False,
            marker={"color": colour, "size": 12, "symbol": ("circle", "square")[place]},
        )  # fmt: skip
    figure.update_xaxes(title="error rate of the judge")
    figure.update_yaxes(range=[-0.05, 1.1])
    now = verdict_correlation(error, true_share)
    groups = 1 - signal(observed_share(true_share, error), group_size)
    text = (
        f"With {100 * error:.0f} % wrong verdicts, {100 * observed_share(true_share, error):.0f} % "
        f"of observations are called sufficient ({100 * true_share:.0f} % are). The verdicts "
        f"correlate with the truth at {now:.2f}, and {100 * groups:.0f} % of groups of "
        f"{group_size} collapse."
    )
    return Picture(framed(figure, "A judge that errs"), text)


def verdict_correlation(error: float, true_share: float) -> float:
    """Return the correlation of a noisy judge's verdicts with the truth."""
    observed = observed_share(true_share, error)
    spread = true_share * (1 - true_share) / max(observed * (1 - observed), 1e-12)
    return float((1 - 2 * error) * np.sqrt(spread))


# ---- length range → reward


def length_reward(
    length_range: tuple[int, int], lengths: Sequence[int], right: Sequence[bool]
) -> Picture:
    """Show which responses earn the length bonus.

    `lengths` are tokens of a process, `right` says whether accuracy and format are earned.
    """
    low, high = length_range
    edges = np.arange(0, max(max(lengths), high) + 10, 5)
    earned = np.array([ok and low <= n <= high for n, ok in zip(lengths, right, strict=True)])
    wrong = ~np.array(right, dtype=bool)
    out_of_range = ~earned & ~wrong
    figure = NotebookFigure()
    for place, (name, chosen, pattern) in enumerate(
        (
            ("earns the bonus", earned, ""),
            ("right, but out of range", out_of_range, "/"),
            ("wrong: no bonus at any length", wrong, "x"),
        )
    ):
        counts = np.histogram(np.asarray(lengths)[chosen], edges)[0]
        figure.add_bar(
            x=(edges[:-1] + 2.5).tolist(),
            y=counts.tolist(),
            name=name,
            marker={"color": COLOURS[place], "pattern": {"shape": pattern}},
        )
    for end in length_range:
        figure.add_vline(x=end, line={"dash": "dash"})
    figure.update_xaxes(title="tokens (bins of 5)")
    most = int(np.histogram(lengths, edges)[0].max())
    figure.update_yaxes(title="responses", dtick=max(1, most // 5))
    framed(figure, f"Length range {low} to {high}").update_layout(barmode="stack", bargap=0.05)
    text = (
        f"{earned.sum()} of {len(lengths)} responses earn the bonus; {out_of_range.sum()} right "
        f"ones are shorter than {low} or longer than {high} tokens. Wrong ones never earn it."
    )
    return Picture(figure, text)


# ---- trace editor


def read_trace(
    response: str,
    question: Question,
    tokenize: Callable[[str], list[str]],
    judge: Callable[[Question, str], Verdict],
) -> Picture:
    """Show the parts of a response, the process of every token and the judge's verdict."""
    parsed = parse(response)
    tokens = tokenize(response)
    looked = border(tokens)
    observation = parsed.observation
    verdict = judge(question, observation) if observation else None
    rows = [
        ["observation", "perception", observation or "–"],
        ["think", "reasoning", parsed.think or "–"],
        ["answer", "reasoning", parsed.answer or "–"],
        ["faults", "", ", ".join(parsed.problems) or "none"],
        ["verdict", "", "no observation" if verdict is None else verdict.rationale],
    ]
    table = go.Table(
        columnwidth=[1, 1, 5],
        header={"values": ["part", "process", "text"], "align": "left"},
        cells={
            "values": [[escape(row[column]) for row in rows] for column in range(3)],
            "align": "left",
            "height": 30,
        },
    )
    sufficient = None if verdict is None else verdict.sufficient
    text = (
        f"{looked} of {len(tokens)} tokens belong to perception. Format: perception "
        f"{'kept' if parsed.format_ok['perception'] else 'broken'}, reasoning "
        f"{'kept' if parsed.format_ok['reasoning'] else 'broken'}. "
        f"Sufficient: {'unknown' if sufficient is None else 'yes' if sufficient else 'no'}."
    )
    figure = framed(NotebookFigure(table), "", 280)
    figure.update_layout(margin={"l": 4, "r": 4, "t": 10, "b": 4})
    return Picture(figure, text, token_strip(tokens, looked))


def token_strip(tokens: Sequence[str], looked: int) -> str:
    """Return tokens as HTML: perception in solid boxes, reasoning in dashed ones, a bar between."""
    boxes = []
    for place, token in enumerate(tokens):
        if place == looked:
            boxes.append("<b> ‖ </b>")
        line = "solid" if place < looked else "dashed"
        process = "perception" if place < looked else "reasoning"
        shown = escape(token).replace("\n", "↵").replace(" ", "&nbsp;")
        boxes.append(
            f'<span title="{process}" style="border:1px {line} #555;margin:1px;'
            f'font-family:monospace">{shown}</span>'
        )
    return f'<div style="line-height:2">{"".join(boxes)}</div>'


def split_text(text: str) -> list[str]:
    """Split a text into tags, words and signs, for readers without a tokenizer."""
    import re

    return re.findall(r"</?\w+>|\s*\w+|\s*[^\w\s]|\s+", text)


def tokenizer_pieces(tokenizer: Any) -> Callable[[str], list[str]]:
    """Return a function that splits a text into the tokens of a model, as texts."""

    def split(text: str) -> list[str]:
        return [tokenizer.decode([token]) for token in tokenizer(text)["input_ids"]]

    return split
