"""Figures of a training stage: its metrics over the steps, and several stages compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from p2r.plots.style import (
    COLOURS,
    DASHES,
    PATTERNS,
    SYMBOLS,
    NotebookFigure,
    drawable,
    escape_label,
    lines,
    styled,
)
from p2r.rewards import CRITICS, PROCESSES, rewards_in_use

_FROM_ZERO = ("mean", "share", "share of groups")
_MANY_STEPS = 60  # more steps are drawn without markers


def _reward_parts(process: str) -> dict[str, str]:
    parts = {"accuracy": "accuracy", "format": "format", "length": "length_bonus"}
    return {name: f"{process}/{key}" for name, key in parts.items()}


def _both(key: str) -> dict[str, str]:
    """Return a line for each process; `{}` in the key of the metric is the process."""
    return {process: key.format(process) for process in PROCESSES}


# The curves of a training run: title -> (axis, {name in the legend: key of the metric}).
CURVES: dict[str, tuple[str, dict[str, str]]] = {
    "Reward of perception, by part": ("mean", _reward_parts("perception")),
    "Reward of reasoning, by part": ("mean", _reward_parts("reasoning")),
    "Collapsed groups": ("share of groups", _both("{}/collapse") | {"both": "joint/collapse"}),
    "Length": ("tokens", _both("{}/tokens")),
    "Truth": (
        "share",
        {
            "true sentences": "faithful",
            "sufficient and true": "sufficient and true",
            "exact answers": "exact",
        },
    ),
    "Implicit perception loss": ("", {"KL": "masked_kl", "entropy, masked": "masked_entropy"}),
    "Critic": ("", {"loss": "critic/loss", "explained variance": "critic/explained"}),
    "Think–answer mismatch": ("share", {"mismatch": "mismatch", "rollouts": "reasoning/mismatch"}),
    "Drift from the start model": ("", {"KL": "kl", "entropy": "entropy"}),
    "Loss": ("", {"loss": "loss"}),
    "Token accuracy": ("share", {"accuracy": "mean_token_accuracy"}),
    "Unknown or truncated": ("share", {"judge unknown": "judge/unknown", "truncated": "truncated"}),
}
# Figures over several stages: name -> (title, axis, {line: key of the metric}). "lost" is added by
# `p2r plot`: the share of groups without a learning signal under the credit scheme of the stage.
COMPARISONS: dict[str, tuple[str, str, dict[str, str]]] = {
    "collapse": ("Groups without a learning signal", "share of groups", {"lost": "lost"}),
    "accuracy": ("Accuracy rewards", "mean", _both("{}/accuracy")),
    "reward": ("Rewards of both processes", "mean", _both("rewards/{}/mean")),
    "format": ("Format rewards", "mean", _both("{}/format")),
    "length-reward": ("Length rewards", "mean", _both("{}/length_bonus")),
    "length": ("Length of responses", "tokens", _both("{}/tokens")),
    "mismatch": ("Think-answer mismatch", "share of rollouts", {"mismatch": "mismatch"}),
    "truth": ("True sentences", "share", {"faithful": "faithful"}),
}


def lost_metric(credit: str, rewards: Sequence[str]) -> str | None:
    """Return the metric that counts the groups from which a credit scheme learns nothing.

    None for a critic: it does not compare the rollouts of a group.
    """
    if credit in CRITICS:
        return None
    used = rewards_in_use(credit, rewards)
    return f"{'joint' if used == PROCESSES else used[0]}/collapse"


def training(
    metrics: Sequence[Mapping[str, float]], keys: Mapping[str, str], title: str, y_title: str = ""
) -> go.Figure:
    """Draw metrics over the steps of a training; `keys`: name in the legend → metric."""
    steps = [int(row["step"]) for row in metrics]
    series = {name: [drawable(row.get(key)) for row in metrics] for name, key in keys.items()}
    return lines(steps, series, title, "optimiser step", y_title)


def curves(name: str, rows: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """Draw one of `CURVES` over the steps of a stage; None if it wrote none of the metrics."""
    axis, keys = CURVES[name]
    series = {label: [drawable(row.get(key)) for row in rows] for label, key in keys.items()}
    series = {label: values for label, values in series.items() if set(values) - {None}}
    if not series:
        return None
    figure = lines([row["step"] for row in rows], series, "", "step", axis)
    if axis in _FROM_ZERO:
        figure.update_yaxes(rangemode="tozero")
    if len(rows) > _MANY_STEPS:
        figure.update_traces(mode="lines")
    return figure


def compare_stages(
    name: str, stages: Mapping[str, Sequence[Mapping[str, Any]]], window: int = 1
) -> go.Figure:
    """Draw one of `COMPARISONS` for several training stages in one figure.

    `stages`: label → the rows of its `metrics.jsonl`. A stage without any of the metrics of a line
    has no such line. `window`: running mean over so many steps. Raises ValueError if no stage has
    the metrics.
    """
    title, axis, keys = COMPARISONS[name]
    figure = NotebookFigure()
    for place, (label, rows) in enumerate(stages.items()):
        for part, (line, key) in enumerate(keys.items()):
            values = running_mean([drawable(row.get(key)) for row in rows], window)
            if set(values) <= {None}:
                continue
            figure.add_scatter(
                x=[row["step"] for row in rows],
                y=values,
                name=escape_label(f"{label}: {line}" if len(keys) > 1 else label),
                mode="lines+markers" if len(rows) <= _MANY_STEPS else "lines",
                marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 6},
                line={
                    "color": COLOURS[place % len(COLOURS)],
                    "dash": DASHES[part % len(DASHES)],
                },
            )
    if not figure.data:
        raise ValueError(f"no stage logged {', '.join(keys.values())}: give folders of RL stages")
    smooth = f" (mean over {window} steps)" if window > 1 else ""
    return styled(figure, title + smooth, "optimiser step", axis).update_yaxes(rangemode="tozero")


def running_mean(values: Sequence[float | None], window: int) -> list[float | None]:
    """Return the mean of each value and the known ones before it, over `window` places."""
    means: list[float | None] = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - window) : end] if value is not None]
        means.append(round(sum(known) / len(known), 5) if known else None)
    return means


def step_time(rows: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """Draw the time of each step: its measured parts stacked, and the rest; None without parts."""
    keys = sorted({key for row in rows for key in row if key.startswith("time/")})
    if not keys:
        return None
    parts = {
        key.removeprefix("time/").replace("_", " "): [drawable(row.get(key)) or 0 for row in rows]
        for key in keys
    }
    totals = [drawable(row.get("step_time")) or 0 for row in rows]
    if any(totals):
        spent = [sum(values) for values in zip(*parts.values(), strict=True)]
        parts["rest of the step"] = [
            round(max(0.0, total - part), 4) for total, part in zip(totals, spent, strict=True)
        ]
    figure = NotebookFigure()
    for place, (name, values) in enumerate(parts.items()):
        figure.add_bar(
            x=[row["step"] for row in rows],
            y=values,
            name=escape_label(name),
            marker={
                "color": COLOURS[place % len(COLOURS)],
                "pattern": {"shape": PATTERNS[place % len(PATTERNS)], "size": 4},
                "line": {"width": 0},
            },
        )
    return styled(figure, "", "step", "seconds").update_layout(barmode="stack", bargap=0)
