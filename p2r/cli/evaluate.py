"""`p2r eval run` and `p2r eval transfer`: let a model answer, and measure it."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2r.cli.eval_options import (
    AllOption,
    BenchmarkOption,
    choose_benchmark,
    eval_app,
    load_named,
    print_numbers,
    print_report,
)
from p2r.cli.options import (
    DryRunOption,
    JsonOption,
    MoveRootOption,
    QuestionsOption,
    RayOption,
    RecipeOption,
    RootOption,
    SetOption,
    ShardOption,
    collect,
    move_data_root,
    open_run,
    parse_shard,
    print_dry_run,
    print_json,
    report_unanswered,
    with_options,
)
from p2r.cli.parallel import ParallelOption, run_parts
from p2r.errors import UserError
from p2r.evaluation.benchmarks import find_benchmark
from p2r.files.atomic import read_json
from p2r.files.safe_text import show_unseen

if TYPE_CHECKING:
    from p2r.evaluation.questions import Manifest
    from p2r.runs import Run


@dataclass(frozen=True)
class Answering:
    """The options of the commands that let a model answer questions."""

    run: Annotated[
        Path,
        typer.Option("--run", help="Run folder. With --recipe or --questions it may be new."),
    ]
    model: Annotated[
        str,
        typer.Option(
            "--model", help="Model folder, hub id, playground/NAME, or a stage of the run."
        ),
    ]
    name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the result. Default: from the model's name."),
    ] = None
    style: Annotated[
        str | None,
        typer.Option(
            "--style",
            metavar="STYLE",
            help="The prompt: full (observation, think, answer), think (no observation), direct "
            "(the bare answer), or a prompt file. Default: the prompt that SFT taught.",
        ),
    ] = None
    direct: Annotated[bool, typer.Option("--direct", help="The same as --style direct.")] = False
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", help="Judge of the observations; none asks no judge. Default: eval.judge."
        ),
    ] = None
    benchmark: Annotated[str | None, *BenchmarkOption.__metadata__] = None
    questions: QuestionsOption = None
    data_root: RootOption = None
    dry_run: DryRunOption = False
    as_json: JsonOption = False
    recipe: RecipeOption = None
    set: SetOption = None

    def open(self) -> tuple[Run, str, str]:
        """Return the opened run, the model to load, and the name of the result."""
        from p2r import stages

        name = self.name
        if name is not None and name != stages.name_of_model(name):
            raise UserError(
                f"--name {name!r} is part of file names: use letters, digits, ., - and _"
            )
        # A new run needs a recipe or questions, so that a misspelt run is not created.
        must_exist = self.recipe is None and self.questions is None
        if not self.dry_run:  # a dry run may plan what is trained later
            self._check_trained(open_run(self.run, self.recipe, self.set, must_exist, dry_run=True))
        opened = open_run(self.run, self.recipe, self.set, must_exist, self.dry_run)
        if self.judge is not None:  # the recipe file of the run keeps its judge
            changed = opened.recipe.eval.model_copy(update={"judge": self.judge})
            opened = replace(opened, recipe=opened.recipe.model_copy(update={"eval": changed}))
        folder = opened.folder / self.model / "model"
        chosen = str(folder) if folder.is_dir() else self.model
        return opened, chosen, name or stages.name_of_model(chosen)

    def _check_trained(self, run: Run) -> None:
        """Raise `UserError` if the model is a stage that the run has not trained yet."""
        from p2r.runs.names import training_command

        command = training_command(self.model, run.recipe.demo.arms)
        there = (run.folder / self.model / "model", Path(self.model))
        if command and run.recipe.eval.engine != "server" and not any(p.is_dir() for p in there):
            raise UserError(
                f"stage {self.model!r} of run {run.folder} is not trained yet: "
                f"train it with `{command} --run {run.folder}`"
            )

    def prompt_style(self) -> str | None:
        """Return the prompt style that the options give; a prompt file is read."""
        if self.direct and self.style not in (None, "direct"):
            raise UserError(f"--direct and --style {self.style} differ: give one of them")
        from p2r.runs.recipe import read_style

        return "direct" if self.direct else self.style and read_style(self.style)


@eval_app.command(
    "run",
    epilog="Example: p2r eval run --run runs/x --model pa_grpo --benchmark mmvu "
    "--questions validation.json --data-root media",
)
@with_options(Answering)
def run_model(
    asked: Answering,
    all_questions: AllOption = False,
    move_root: MoveRootOption = False,
    shard: ShardOption = None,
    parallel: ParallelOption = None,
    ray: RayOption = False,
) -> None:
    """Measure a model: accuracy, sufficiency, format and mismatch, with 95 % intervals.

    On a benchmark, also its official score and a robust score.
    """
    from p2r import stages
    from p2r.files.journal import exclusive

    run, model, name = asked.open()
    questions, data_root, style = asked.questions, asked.data_root, asked.prompt_style()
    entry = None
    if asked.benchmark is not None:
        entry = find_benchmark(choose_benchmark(asked.benchmark, all_questions))
    if asked.dry_run:
        from p2r.stages.preview import preview_evaluation

        benchmark = None if entry is None or entry.built_in else entry.name
        print_dry_run(preview_evaluation(run, model, benchmark, questions, data_root, style))
        return
    move_data_root(run, move_root, data_root, questions)
    official = None if entry is None or entry.built_in else entry.name
    if official is not None:
        if questions is None:
            raise UserError(
                f"--benchmark {asked.benchmark} needs --questions: give its official files"
            )
        name = f"{name}-{official.replace(':', '-')}"
    run_parts(parallel, shard, ray)
    if part := parse_shard(shard):
        if ray:
            raise UserError("Ray divides the questions itself: leave out --shard or --ray")
        if not stages.answer_shard(run, model, name, part, questions, data_root, style, official):
            print(
                "this part is answered. The part that ends last writes the results of all parts. "
                "The same command without --shard writes them too"
            )
            return
    # Two parts that end together do not score at the same time.
    with exclusive(run.path("eval", f".{name}.lock")) if part else nullcontext():
        if official is None:
            _, result = stages.evaluate(run, model, name, questions, data_root, style, ray=ray)
        else:
            assert questions is not None
            _, result = stages.evaluate_benchmark(
                *(run, model, name, official, questions, data_root, style, print_manifest),
                ray=ray,
            )
        collect(run)
    from p2r.evaluation.run import result_path

    scores = read_json(result_path(run, name))
    if asked.as_json:
        print_json(result | {"scores": {k: v for k, v in scores.items() if k != "items"}})
    else:
        from p2r.cli.tables import evaluation_tables, make_console

        make_console().print(*evaluation_tables(result))
        if entry is not None:
            print_numbers(scores)
    report_unanswered(run.folder / "eval" / f"{name}.errors.jsonl", len(result["unreadable"]))


@eval_app.command(
    epilog="Example: p2r eval transfer a.json --run runs/x --model playground/second/base "
    "--benchmark mmvu --questions validation.json"
)
@with_options(Answering)
def transfer(
    asked: Answering,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Result file with another model's observations.")
    ],
) -> None:
    """Perception transfer: let a model answer from another model's observations (Table 5)."""
    from p2r import stages

    benchmark = load_named(asked.benchmark)
    run, model, name = asked.open()
    questions, data_root, style = asked.questions, asked.data_root, asked.prompt_style()
    if asked.dry_run:
        from p2r.stages.preview import preview_evaluation, preview_transfer

        own = None if questions is None else benchmark
        plan = preview_evaluation(run, model, own, questions, data_root, style)
        print_dry_run([*plan, *preview_transfer(run, file)])
        return
    written = stages.transfer(
        run, model, f"{name}-transfer", file, benchmark, questions, data_root, style
    )
    collect(run)
    left_out = read_json(written[0])["made"]["left_out"]
    for reason, count in left_out.items():
        print(f"{count} questions {reason}", file=sys.stderr)
    print_report(written, asked.as_json)


def print_manifest(manifest: Manifest) -> None:
    """Print what a benchmark's files hold, to stderr."""
    for line in manifest.lines():
        print(show_unseen(line), file=sys.stderr)
