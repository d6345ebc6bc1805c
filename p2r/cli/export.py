"""`p2r export`: models, tasks and results for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from p2r.cli.options import DryRunOption, JsonOption, app, print_dry_run

export_app = typer.Typer(
    name="export", help="Export models and results for other programs.", no_args_is_help=True
)
app.add_typer(export_app)


@export_app.command(
    "model",
    epilog="Example: p2r export model runs/x/pa_grpo --out my-model\n\n"
    "Example: p2r export model runs/x/pa_grpo --out my-model --push ORG/NAME",
)
def export_model(
    stage: Annotated[
        Path, typer.Argument(metavar="RUN/STAGE", help="A finished training, such as RUN/pa_grpo.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write. It must be new or empty.")],
    adapters: Annotated[
        bool, typer.Option("--adapters", help="The LoRA adapters instead of the merged weights.")
    ] = False,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="ORG/NAME", help="Also upload the folder to the hub."),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="With --push: make it public. Default: private.")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a trained model as a folder that vLLM and transformers use without p2r.

    The folder has weights, a processor with the pixels of the training, a chat template that asks
    in the template of the training, a generation config, a reasoning parser for vLLM and a card.
    """
    from p2r.export.model import export_model, preview_export, push_model

    if dry_run:
        print_dry_run(preview_export(stage, out, adapters=adapters, repository=push))
        return
    folder = export_model(stage, out, adapters=adapters)
    files = sorted(file.name for file in folder.iterdir())
    url = push_model(folder, push, not public) if push else None
    if as_json:
        print(json.dumps({"folder": str(folder), "files": files, "url": url}, indent=1))
        return
    print(f"{folder}: {', '.join(files)}")
    if url:
        print(url)


OutOption = Annotated[Path, typer.Option("--out", help="Folder to write.")]


@export_app.command(
    "lmms-task",
    epilog="Example: p2r export lmms-task validation.json --benchmark mmvu --data-root media "
    "--out tasks\n\nExample: lmms-eval --model p2r --model_args "
    "pretrained=runs/x/pa_grpo --include_path tasks --tasks p2r_mmvu",
)
def export_task(
    questions: Annotated[
        Path, typer.Argument(metavar="FILE", help="Questions, or a benchmark's own files.")
    ],
    out: OutOption,
    benchmark: Annotated[
        str | None,
        typer.Option(
            "--benchmark",
            help="Read FILE as this benchmark and score by its rule: a name, or a Python file. "
            "Default: accuracy by problem type.",
        ),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root", help="Folder of the media. Default: the folder of the questions."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The task is p2r_NAME. Default: from the file.")
    ] = None,
    style: Annotated[
        str,
        typer.Option(
            "--style", help="The prompt for other models: full, think, direct or a prompt file."
        ),
    ] = "full",
    as_json: JsonOption = False,
) -> None:
    """Write a task for lmms-eval that asks in the process-aware template.

    Give the folder to lmms-eval as --include_path. The task scores with p2r's rules.
    """
    from p2r.evaluation.benchmarks import load_benchmark
    from p2r.export.lmms_task import write_task
    from p2r.runs.styles import read_style

    entry = load_benchmark(benchmark).name if benchmark else None
    file = write_task(
        questions,
        out,
        data_root=data_root,
        benchmark=entry,
        name=name,
        style=read_style(style),
    )
    if as_json:
        print(json.dumps({"task": file.stem, "file": str(file)}, indent=1))
    else:
        print(f"task {file.stem} in {file}: give lmms-eval --include_path {out}")


@export_app.command(
    "samples", epilog="Example: p2r export samples runs/x/results/sft.json --out logs"
)
def export_samples(
    result: Annotated[Path, typer.Argument(metavar="RESULT.json", help="A result file of p2r.")],
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Write a result file as a sample log of lmms-eval."""
    from p2r.export.lmms_task import write_samples

    file = write_samples(result, out)
    print(json.dumps({"file": str(file)}, indent=1) if as_json else file)
