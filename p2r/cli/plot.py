"""`p2r plot`: figures of training stages (from their stored metrics), data sets and studies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from p2r.cli.options import app
from p2r.errors import UserError

STUDY_FIGURES = ("study", "study-curves")
# The metrics in the figure "results", where a run has them.
SHOWN = ("accuracy", "sufficiency", "sufficient and true", "faithful", "mismatch")
PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".eps")


@app.command(
    epilog="Example: p2r plot collapse runs/x/grpo runs/x/pa_grpo --out collapse.html (Fig. 6c). "
    "Of a data set: p2r plot mix runs/x. Of a study: p2r plot study runs/x/study_credit.json"
)
def plot(
    name: Annotated[
        str,
        typer.Argument(
            metavar="FIGURE",
            help="Of RL stages: collapse, accuracy, format, length-reward, reward, length "
            "(tokens), mismatch or truth. Of a data set: mix (problem types) or segments (words). "
            "Of a demo: results. Of a study: study or study-curves.",
        ),
    ],
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="STAGE|DATA|STUDY...",
            help="For curves: folders of RL stages (RUN/pa_grpo). For a data set: one run (its "
            "kept traces) or one file. For results: one finished demo (RUN). For a study: "
            "RUN/study_NAME.json.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="File to write: .html, .json, or .png, .svg, .pdf with kaleido.")
    ] = Path("figure.html"),
    window: Annotated[int, typer.Option(min=1, help="Steps of the running mean.")] = 1,
) -> None:
    """Draw the curves of several RL stages, or a figure of a data set, a demo or a study.

    The figure collapse shows the share of lost groups. In a lost group, each reward that the stage
    learns from has the same value for all rollouts.
    """
    from p2r import plots

    if out.suffix not in (".html", ".json", *PICTURES):
        raise UserError(
            f"cannot write {out}: its name must end in .html, .json, .png, .svg or .pdf"
        )
    if name in plots.COMPARISONS:
        rows = {label: _read(stage) for label, stage in _labels(sources).items()}
        figure = plots.compare_stages(name, rows, window)
    elif name in plots.DATA_FIGURES:
        figure = _draw_data(name, sources)
    elif name == "results":
        figure = _draw_results(sources)
    elif name in STUDY_FIGURES:
        figure = _draw_study(name, sources, window)
    else:
        known = ", ".join((*plots.COMPARISONS, *plots.DATA_FIGURES, "results", *STUDY_FIGURES))
        raise UserError(f"no figure {name!r}: use one of {known}")
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".html":
        figure.write_html(out)
    elif out.suffix == ".json":
        figure.write_json(out)
    else:
        _write_image(figure, out)
    print(out)


def _write_image(figure: Any, out: Path) -> None:
    """Write a picture. Raises `UserError` if kaleido or its browser is missing."""
    try:
        figure.write_image(out)
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"cannot draw {out}: {out.suffix} files need kaleido and Chrome (pip install kaleido, "
            "then kaleido_get_chrome). Without them, give a .html or .json file"
        ) from error


def _draw_data(name: str, sources: list[Path]) -> Any:
    """Return a figure of `plots.DATA_FIGURES` for one data set."""
    from p2r import plots
    from p2r.datasets.items import read_items
    from p2r.records import Case

    if len(sources) > 1:
        raise UserError(f"figure {name} shows one data set: give one run or file")
    if name == "mix":
        counts: dict[str, Counter[str]] = {"image": Counter(), "video": Counter()}
        for item in read_items(sources[0]):
            question = item.question if isinstance(item, Case) else item
            counts[question.data_type][question.problem_type] += 1
        return plots.mix(counts)
    traces = [item.trace for item in read_items(sources[0]) if isinstance(item, Case)]
    if not traces:
        raise UserError(f"{sources[0]} has no traces: give a run with kept traces, or their file")
    observed = [_words(trace.observation) for trace in traces]
    reasoned = [_words(trace.think) + _words(trace.answer) for trace in traces]
    return plots.segments(observed, reasoned)


def _draw_results(sources: list[Path]) -> Any:
    """Return the figure of the results of one demo."""
    from p2r import plots
    from p2r.runs import read_json

    if len(sources) > 1:
        raise UserError("figure results shows one run: give one folder of a demo")
    file = sources[0] / "results.json"
    if not file.is_file():
        raise UserError(f"{file} is missing: p2r demo --run {sources[0]} writes it at its end")
    try:
        shown = {
            model: {metric: row[metric] for metric in SHOWN if metric in row}
            for model, row in read_json(file).items()
        }
        return plots.results(shown, "Held-out questions, with 95 % intervals")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} does not have the form of a demo's results: {error!r}") from error


def _draw_study(name: str, sources: list[Path], window: int) -> Any:
    """Return a figure of the result of one study."""
    from p2r import plots
    from p2r.studies.framework.result import read_result

    if len(sources) > 1:
        raise UserError(f"figure {name} shows one study: give one study_NAME.json")
    result = read_result(sources[0])
    return plots.study(result) if name == "study" else plots.study_curves(result, window)


def _words(text: str | None) -> int:
    return len((text or "").split())


def _labels(stages: list[Path]) -> dict[str, Path]:
    """Return a short label for each stage; the run's name is added where labels are equal."""
    from p2r.runs.names import model_label

    short = [model_label(stage.name) for stage in stages]
    labels = {
        label if short.count(label) == 1 else f"{stage.resolve().parent.name}, {label}": stage
        for label, stage in zip(short, stages, strict=True)
    }
    if len(labels) < len(stages):
        raise UserError("two stages have the same run and name: give each stage once")
    return labels


def _read(stage: Path) -> list[dict[str, Any]]:
    """Return the rows of a stage, with the share of lost groups as "lost"."""
    from p2r import plots
    from p2r.runs import read_json
    from p2r.runs.metrics import read_metrics

    rows = read_metrics(stage / "metrics.jsonl")
    if not rows:
        raise UserError(f"{stage} has no metrics.jsonl with steps: give the folder of a stage")
    made = stage / "made.json"
    settings = read_json(made).get("rl") if made.is_file() else None
    if settings and (key := plots.lost_metric(settings["credit"], settings["rewards"])):
        rows = [{**row, "lost": row.get(key)} for row in rows]
    return rows
