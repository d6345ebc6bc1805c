"""The verb of measuring."""

from __future__ import annotations

from typing import Annotated

import typer

from p2r.cli.options import (
    QuestionsOption,
    RecipeOption,
    RootOption,
    RunOption,
    SetOption,
    app,
    collect,
    open_run,
    report_unanswered,
)


@app.command(
    name="eval",
    epilog="Example: p2r eval --run runs/x --model runs/x/pa_grpo/model --questions test.jsonl",
)
def evaluate(
    run: RunOption,
    model: Annotated[
        str, typer.Option(help="Model folder, hub id, playground/NAME, or a stage of the run.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the result. Default: from the model's.")
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Ask for the bare answer, without the template.")
    ] = False,
    questions: QuestionsOption = None,
    data_root: RootOption = None,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Measure a model on held-out questions.

    Accuracy, sufficiency, format and mismatch, per problem type, with 95 % intervals.
    """
    from p2r import stages

    if name is not None and name != stages.name_of_model(name):
        raise ValueError(f"--name {name!r} names files: use letters, digits, dots, - and _ alone")
    # A new run is told what it is about; a run that is misspelt is not begun.
    opened = open_run(run, recipe, set, must_exist=recipe is None and questions is None)

    from p2r.tables import evaluation_table, make_console

    folder = opened.folder / model / "model"
    chosen = str(folder) if folder.is_dir() else model
    name = name or stages.name_of_model(chosen)
    _, result = stages.evaluate(
        opened, chosen, name, questions, data_root, "direct" if direct else None
    )
    collect(opened)
    make_console().print(evaluation_table(result))
    report_unanswered(opened.folder / "eval" / f"{name}.errors.jsonl", len(result["unreadable"]))
