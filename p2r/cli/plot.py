"""`p2r plot`: figures over several training stages, from their stored metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from p2r.cli.options import app
from p2r.errors import UserError

# The metric of a stage's lost groups, by the process rewards that its credit scheme learns from.
LOST = {
    ("perception", "reasoning"): "joint/collapse",
    ("perception",): "perception/collapse",
    ("reasoning",): "reasoning/collapse",
}


@app.command(
    epilog="Example: p2r plot collapse runs/x/grpo runs/x/pa_grpo --out collapse.html (Fig. 6c)"
)
def plot(
    name: Annotated[
        str,
        typer.Argument(metavar="FIGURE", help="collapse, accuracy, format, length or mismatch."),
    ],
    stages: Annotated[
        list[Path], typer.Argument(metavar="STAGE...", help="Folders of RL stages: RUN/pa_grpo.")
    ],
    out: Annotated[
        Path, typer.Option(help="File to write: .html, .json, or .png, .svg, .pdf with kaleido.")
    ] = Path("figure.html"),
    window: Annotated[int, typer.Option(min=1, help="Running mean over so many steps.")] = 1,
) -> None:
    """Draw the curves of several RL stages in one figure, for example GRPO beside PA-GRPO.

    A group is lost (figure collapse) if all of the rewards that the stage learns from are equal.
    """
    from p2r import plots

    if name not in plots.COMPARISONS:
        raise UserError(f"no figure {name!r}: use one of {', '.join(plots.COMPARISONS)}")
    rows = {label: _read(stage) for label, stage in _labels(stages).items()}
    figure = plots.compare_stages(name, rows, window)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".html":
        figure.write_html(out)
    elif out.suffix == ".json":
        figure.write_json(out)
    else:
        try:
            figure.write_image(out)
        except ValueError as error:  # no kaleido, or another ending
            raise UserError(f"cannot write {out} ({error}): give a .html file") from error
    print(out)


def _labels(stages: list[Path]) -> dict[str, Path]:
    """Return a short label for each stage; the run's name is added where labels are equal."""
    from p2r.runs.names import MODEL_LABELS

    short = [MODEL_LABELS.get(stage.name, stage.name) for stage in stages]
    labels = {
        label if short.count(label) == 1 else f"{stage.resolve().parent.name}, {label}": stage
        for label, stage in zip(short, stages, strict=True)
    }
    if len(labels) < len(stages):
        raise UserError("two stages have the same run and name: give each stage once")
    return labels


def _read(stage: Path) -> list[dict[str, Any]]:
    """Return the rows of a stage, with the share of lost groups as "lost"."""
    from p2r.browser.curves_view import read_metrics
    from p2r.rewards import rewards_in_use
    from p2r.runs import read_json

    rows = read_metrics(stage / "metrics.jsonl")
    if not rows:
        raise UserError(f"{stage} has no metrics.jsonl with steps: give the folder of a stage")
    made = stage / "made.json"
    settings = read_json(made).get("rl") if made.is_file() else None
    if settings:
        key = LOST[rewards_in_use(settings["credit"], settings["rewards"])]
        rows = [{**row, "lost": row.get(key)} for row in rows]
    return rows
