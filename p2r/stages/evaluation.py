"""The stage `eval`: on the run's questions, on a benchmark, and perception transfer."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.errors import UserError
from p2r.files.journal import Shard
from p2r.judges import asks_nothing
from p2r.judges.run_judge import run_judge
from p2r.records import Case, Question
from p2r.runs import Run
from p2r.stages.inputs import find_questions, prepare
from p2r.stages.media_folder import claim_data_root

if TYPE_CHECKING:
    from p2r.engines.work_plan import WorkPlan
    from p2r.evaluation.questions import Manifest

Evaluated = tuple[list[Case], dict[str, Any]]


def evaluate(
    run: Run,
    model: str,
    stage: str,
    questions: Path | None = None,
    data_root: Path | None = None,
    style: str | None = None,
    split: str | None = None,
    *,
    ray: bool = False,
) -> Evaluated:
    """Evaluate a model; returns its cases and the content of `eval/STAGE.json`.

    `style`: the prompt style, or the text of a prompt file (default: the style that SFT teaches, in
    all functions here). `split`: a split of the playground other than the test split. `ray`:
    work on a Ray cluster.
    """
    asked, root = _find_questions(run, stage, questions, data_root, split)
    return _evaluator(run, model, style, ray)(asked, root, stage)


def evaluate_questions(
    run: Run,
    model: str,
    stage: str,
    asked: list[Question],
    data_root: Path,
    style: str | None = None,
) -> Evaluated:
    """Evaluate a model like `evaluate`, on questions in memory. The run keeps its own questions."""
    root = claim_data_root(run, data_root, data_root)
    return _evaluator(run, model, style)(asked, root, stage)


def evaluate_benchmark(
    run: Run,
    model: str,
    stage: str,
    benchmark: str,
    questions: Path,
    data_root: Path | None = None,
    style: str | None = None,
    check: Callable[[Manifest], None] = lambda manifest: None,
    *,
    ray: bool = False,
) -> Evaluated:
    """Evaluate a model on a benchmark's official files, and write a result file.

    `check` gets the manifest of the files before the first question is asked. Media paths are
    relative to `data_root` (default: the folder of the files). The run's own questions stay
    unchanged.
    """
    asked, root = _read_questions(run, benchmark, questions, data_root, style, check)
    return _evaluator(run, model, style, ray)(asked, root, stage)


def answer_shard(
    run: Run,
    model: str,
    stage: str,
    shard: Shard,
    questions: Path | None = None,
    data_root: Path | None = None,
    style: str | None = None,
    benchmark: str | None = None,
) -> bool:
    """Let a model answer one part of the questions; return whether all parts are answered now.

    Several machines or GPUs may do this at the same time for one `stage`. Then `evaluate`, or with
    a benchmark `evaluate_benchmark`, scores the answers of all parts.
    """
    from p2r.evaluation.run import answer

    asked, root = _read_questions(run, benchmark, questions, data_root, style, stage=stage)
    prepare(run)
    style, plan = run.recipe.prompt_style("eval", style), _plan(run, model, style)
    assert plan.make_model is not None
    chosen, journal = answer(
        *(run.recipe, asked, plan.make_model(), run, stage, root, style, replace(plan, shard=shard))
    )
    return journal.is_complete(chosen)


def _find_questions(
    run: Run,
    stage: str | None,
    questions: Path | None,
    data_root: Path | None,
    split: str | None = None,
) -> tuple[list[Question], Path]:
    """Return the questions of the run. Refuses to replace a result of `stage` on other ones."""

    def check(found: list[Question]) -> None:
        from p2r.evaluation.run import check_stored

        if stage is not None:
            asked = found[: run.recipe.eval.questions]
            check_stored(run, stage, [question.id for question in asked])

    return find_questions(run, "eval", questions, data_root, split=split, check=check)


def _read_questions(
    run: Run,
    benchmark: str | None,
    questions: Path | None,
    data_root: Path | None,
    style: str | None,
    check: Callable[[Manifest], None] = lambda manifest: None,
    stage: str | None = None,
) -> tuple[list[Question], Path]:
    """Return the questions of a benchmark's files, or of the run, and their media folder."""
    if benchmark is None or questions is None:
        return _find_questions(run, stage, questions, data_root)
    from p2r.evaluation.questions import read_benchmark, to_questions

    folder = questions if questions.is_dir() else questions.parent
    root = claim_data_root(run, data_root, folder)
    fields, manifest = read_benchmark(benchmark, questions, root)
    check(manifest)
    direct = run.recipe.prompt_style("eval", style) == "direct"
    return to_questions(manifest.benchmark, fields, direct=direct), root


def _plan(run: Run, model: str, style: str, ray: bool = False) -> WorkPlan:
    """Return how an evaluation works, with a function that makes its engine."""
    from p2r.engines import load_engine
    from p2r.engines.work_plan import WorkPlan, find_spread

    settings = run.recipe.eval
    make_engine = partial(
        load_engine,
        run.recipe,
        model,
        batch_size=settings.batch_size,
        style=style,
        engine=settings.engine,
    )
    return WorkPlan(
        spread=find_spread(ray),
        make_model=make_engine,
        patience=run.recipe.generate.patience,
        group=settings.batch_size,
    )


def _evaluator(
    run: Run, model: str, style: str | None, ray: bool = False
) -> Callable[..., Evaluated]:
    """Return `p2r.evaluation.run.evaluate` with everything set but questions, root and stage."""
    from p2r.evaluation.run import evaluate as evaluate_model

    prepare(run)
    settings, style = run.recipe.eval, run.recipe.prompt_style("eval", style)
    plan = _plan(run, model, style, ray)
    assert plan.make_model is not None
    engine = plan.make_model()
    judge = None if asks_nothing(settings.judge) else run_judge(run, settings.judge)

    def measure(asked: list[Question], root: Path, stage: str, made: Any = None) -> Evaluated:
        return evaluate_model(run.recipe, asked, engine, run, stage, judge, root, style, made, plan)

    return measure


def transfer(
    run: Run,
    model: str,
    stage: str,
    source: Path,
    benchmark: str | None = None,
    questions: Path | None = None,
    data_root: Path | None = None,
    style: str | None = None,
) -> list[Path]:
    """Measure perception transfer: a reader model answers from each of four inputs.

    `source` is the result file with the observations. Writes and returns one result file for each
    input, `results/STAGE-INPUT.json`, which `p2r.evaluation.report` compares with Table 5. All
    inputs have the same questions. The result files count the others: `source` did not answer
    them, or its observation cannot be read. See `p2r.evaluation.transfer`.
    """
    from p2r.evaluation.results import read_result
    from p2r.evaluation.run import result_path
    from p2r.evaluation.transfer import INPUTS, count_left_out, observations_of, transfer_questions

    asked, root = _read_questions(run, benchmark, questions, data_root, style)
    asked = asked[: run.recipe.eval.questions]
    result = read_result(source)
    observations, left_out = observations_of(asked, result), count_left_out(asked, result)
    measure = _evaluator(run, model, style)
    written = []
    for given in INPUTS:
        name = f"{stage}-{given.replace(' + ', '-')}"
        posed = transfer_questions(asked, observations, given)
        if not posed:
            raise UserError(
                f"{source} has no observation for these questions: the ids must be the same"
            )
        about = {"input": given, "observations_by": result.model, "left_out": left_out}
        measure(posed, root, name, about)
        written.append(result_path(run, name))
    return written


def name_of_model(model: str) -> str:
    """Return a short name for a model's results: `runs/x/sft/model` gives `sft`."""
    parts = [part for part in Path(model).parts if part != "model"]
    return re.sub(r"[^\w.-]", "_", parts[-1]) if parts else "model"
