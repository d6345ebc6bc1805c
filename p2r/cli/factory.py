"""The verbs of the data set: traces written, traces kept."""

from __future__ import annotations

from p2r.cli.options import (
    QuestionsOption,
    RecipeOption,
    RootOption,
    RunOption,
    SetOption,
    app,
    open_run,
    report_unanswered,
)


@app.command(
    epilog="Example: p2r generate --run runs/x --recipe 7b --questions Video-R1-260k.json "
    "--data-root data --set generate.questions=1000",
)
def generate(
    run: RunOption,
    questions: QuestionsOption = None,
    data_root: RootOption = None,
    recipe: RecipeOption = None,
    set: SetOption = None,
) -> None:
    """Step 1: the teacher writes one trace per question."""
    opened = open_run(run, recipe, set)
    from p2r import stages

    journal = stages.generate(opened, questions, data_root)
    report_unanswered(journal.errors_path, len(journal.errors()))


@app.command(epilog="Example: p2r filter --run runs/x")
def filter(run: RunOption, recipe: RecipeOption = None, set: SetOption = None) -> None:
    """Steps 2 and 3: keep what is right and well observed.

    Traces on the template, with a right answer and an observation the judge finds sufficient.
    """
    opened = open_run(run, recipe, set, must_exist=True)

    from p2r import stages
    from p2r.tables import funnel_table, make_console

    make_console().print(funnel_table(stages.filter(opened)))
